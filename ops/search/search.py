"""A search in this clone: it runs trials of a study until there are as many as were asked for.

Reads  the commit in this clone, which must have no changes
Writes what .visionloop/search holds of this clone (its name, a lock, the trials' logs), and the study
"""

import fcntl
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from ops.project.pipeline import git
from ops.search import report as search_report
from ops.search import trial as search_trial
from ops.search.space import suggest
from ops.search.study import SILENT_SECONDS, Definition, counted, database_problem, retry
from ops.search.trial import TrialFailed
from stages.running import terminal
from stages.running.terminal import Interrupted, UserError

# Trials that fail one after the other, after which more than their params must be wrong.
FIRST_FAILURES, FAILURES = 3, 6


class Surplus(Exception):
    """Another machine took the last trial in the same moment."""


@dataclass
class Search:
    """A search in this clone, as a part of a study."""

    study: optuna.Study
    definition: Definition
    total: int
    folder: Path
    clone: str
    failures: list[str] = field(default_factory=list)  # of the newest trials here, one after the other
    interrupted: int | None = None  # the trial that Ctrl-C stopped

    def __post_init__(self) -> None:
        self.objectives, self.space = self.definition.parsed()

    def run(self) -> None:
        """Trials, until there are as many as were asked for. Raises UserError when they fail one after the other, and
        Interrupted after SIGTERM or Ctrl-C."""
        self.take_back_lost()
        while len(counted(self.study.trials)) < self.total:
            check_clean(self.definition.commit)
            try:
                self.study.optimize(self.trial, 1, catch=(TrialFailed, Surplus), callbacks=[self.report])
            except KeyboardInterrupt:
                if self.interrupted is None:
                    raise
                retry(times=None)(self.study, self.study.trials[self.interrupted])
                raise Interrupted(f"rerun the same command to resume trial {self.interrupted}") from None
            except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                problem = database_problem(error)
                raise UserError(f"lost the database ({problem}); rerun the same command to resume") from error
            except ValueError as error:
                if "Cannot tell" not in str(error):
                    raise
                terminal.say("a trial stopped sending heartbeats and was requeued")
            if len(self.failures) == (FAILURES if self.has_results() else FIRST_FAILURES):
                raise UserError(f"{len(self.failures)} trials in a row failed, the last with: {self.failures[-1]}")

    def has_results(self) -> bool:
        """Whether any trial has worked."""
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))

    def name(self, number: int | str) -> str:
        """Of the DVC experiment of a trial."""
        return f"{self.study.study_name}-{number}"

    def trial(self, trial: optuna.Trial) -> list[float]:
        """Runs a trial. Raises TrialPruned and TrialFailed."""
        trial.set_user_attr("clone", self.clone)
        trial.set_user_attr("host", socket.gethostname())
        if len([t for t in counted(self.study.trials) if t.number < trial.number]) >= self.total:
            trial.set_user_attr("surplus", True)
            raise Surplus
        params, experiment = suggest(trial, self.space), self.name(trial.number)
        trial.set_user_attr("experiment", experiment)
        stages = sorted({objective.stage for objective in self.objectives if objective.stage})
        tags = {"study": self.study.study_name, "trial": str(trial.number)}
        log = self.folder / f"{experiment}.log"
        process = search_trial.start(experiment, params, stages, tags, log)
        try:
            if len(self.objectives) == 1 and self.objectives[0].comes_while_training:
                self.follow(trial, search_trial.Watch(process, experiment, self.objectives[0]))
            process.wait()
        except KeyboardInterrupt:
            self.interrupted = trial.number
            raise
        finally:
            if process.poll() is None:
                search_trial.stop(process)
            search_trial.clear_up(experiment)
        if process.returncode:
            message = search_trial.complaint(log)
            trial.set_user_attr("error", message)
            raise TrialFailed(message)
        return search_trial.read_values(self.definition.commit, experiment, self.objectives, params)

    def follow(self, trial: optuna.Trial, watch: search_trial.Watch) -> None:
        """Hands what is measured on to Optuna, and stops the trial when it says so."""
        for step, value in watch:
            trial.report(value, step)
            if self.definition.prune and trial.should_prune() and watch.prune():
                raise optuna.TrialPruned

    def report(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Says how a trial ended."""
        if "surplus" in trial.user_attrs:
            return
        if trial.state == TrialState.FAIL:
            self.failures.append(trial.user_attrs.get("error", "a figure that is no number"))
        else:
            self.failures.clear()
        terminal.say(search_report.line(trial, self.objectives))

    def take_back_lost(self) -> None:
        """Ends the trials of this clone whose search was killed: finished ones count, others are tried again."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
            nobodys = "clone" not in trial.user_attrs and time.time() - begun > SILENT_SECONDS
            if trial.user_attrs.get("clone") != self.clone and not nobodys:
                continue
            experiment = self.name(trial.number)
            search_trial.stop_orphan(experiment)
            search_trial.clear_up(experiment)
            if search_trial.is_here(self.definition.commit, experiment):
                values = search_trial.read_values(self.definition.commit, experiment, self.objectives, trial.params)
                self.study.tell(trial.number, values)
                terminal.say(f"trial {trial.number} was finished when its search was killed")
            else:
                self.study.tell(trial.number, state=TrialState.FAIL)
                retry()(self.study, trial)
                terminal.say(f"trial {trial.number} was lost when its search was killed: it is tried again")


def check_clean(commit: str) -> None:
    """Raises UserError when this clone is not at `commit`, or has changes, which would get into the trials."""
    if changes := git("status", "--porcelain", "--untracked-files=no"):
        changed = ", ".join(line[3:] for line in changes.splitlines()[:5])
        raise UserError(
            f"uncommitted changes ({changed}) would get into the trials: commit them, or `git stash`, "
            "and rerun the same command to resume"
        )
    if (head := git("rev-parse", "HEAD")) != commit:
        raise UserError(
            f"the study is on top of commit {commit[:7]}, and this clone is at {head[:7]}: "
            f"`git switch --detach {commit[:7]}`, or begin another --study"
        )


@contextmanager
def only_search_here(folder: Path) -> Iterator[str]:
    """Holds the lock of this clone, and yields a name of the clone that no other has."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "a search is at work in this clone, and DVC runs one experiment at a time there: "
                "another clone may take part with the same --study and --storage"
            ) from None
        name = folder / "clone"
        if not name.exists():
            name.write_text(uuid.uuid4().hex)
        yield name.read_text()
