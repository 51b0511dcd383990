"""A search in this clone: runs trials of a study until it has the requested number.

Reads  the commit of this clone, which must have no uncommitted changes
Writes the study, and in .visionloop/search the name of this clone, a lock and the trials' logs
"""

import argparse
import fcntl
import hashlib
import json
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from ops.project.pipeline import git
from ops.search import report as search_report
from ops.search import trial as search_trial
from ops.search.space import suggest
from ops.search.study import SILENT_SECONDS, Definition, counted, database_problem, open_storage, open_study, retry
from ops.search.trial import TrialFailed
from stages.running import terminal
from stages.running.checkout import main_checkout
from stages.running.terminal import Interrupted, UserError

# Consecutive failed trials that end a search, as the cause is probably not in their params: before the first success,
# and later.
MAX_FIRST_FAILURES, MAX_FAILURES = 3, 6


class Surplus(Exception):
    """Another machine took the last trial at the same moment."""


@dataclass
class Search:
    """This clone's part in a study."""

    study: optuna.Study
    definition: Definition
    total: int
    folder: Path
    clone: str
    failures: list[str] = field(default_factory=list)  # messages of the consecutive failed trials so far
    interrupted: int | None = None  # the number of the trial that Ctrl-C stopped

    def __post_init__(self) -> None:
        self.objectives, self.space = self.definition.parsed()

    def run(self) -> None:
        """Runs trials until the study has the requested number. Raises UserError when too many fail in a row, and
        Interrupted after SIGTERM or Ctrl-C."""
        self.recover_lost_trials()
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
            if len(self.failures) == (MAX_FAILURES if self.has_results() else MAX_FIRST_FAILURES):
                raise UserError(f"{len(self.failures)} trials in a row failed, the last with: {self.failures[-1]}")

    def has_results(self) -> bool:
        """Whether any trial has succeeded."""
        return bool(self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))

    def name(self, number: int | str) -> str:
        """The name of a trial's DVC experiment."""
        return f"{self.study.study_name}-{number}"

    def trial(self, trial: optuna.Trial) -> list[float]:
        """Runs a trial; returns its objectives. Raises TrialPruned, TrialFailed and Surplus."""
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
            if len(self.objectives) == 1 and self.objectives[0].measured_during_training:
                self.follow(trial, search_trial.Watch(process, experiment, self.objectives[0]))
            process.wait()
        except KeyboardInterrupt:
            self.interrupted = trial.number
            raise
        finally:
            if process.poll() is None:
                search_trial.stop(process)
            search_trial.remove_copy(experiment)
        if process.returncode:
            message = search_trial.failure_message(log)
            trial.set_user_attr("error", message)
            raise TrialFailed(message)
        return search_trial.read_values(self.definition.commit, experiment, self.objectives, params)

    def follow(self, trial: optuna.Trial, watch: search_trial.Watch) -> None:
        """Passes the measured values to Optuna, and stops the trial when Optuna prunes it."""
        for step, value in watch:
            trial.report(value, step)
            if self.definition.prune and trial.should_prune() and watch.prune():
                raise optuna.TrialPruned

    def report(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Prints the outcome of a trial."""
        if "surplus" in trial.user_attrs:
            return
        if trial.state == TrialState.FAIL:
            self.failures.append(trial.user_attrs.get("error", search_report.NOT_A_NUMBER))
        else:
            self.failures.clear()
        terminal.say(search_report.line(trial, self.objectives))

    def recover_lost_trials(self) -> None:
        """Ends the trials of this clone whose search was killed: finished ones count, others are retried."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
            is_unclaimed = "clone" not in trial.user_attrs and time.time() - started > SILENT_SECONDS
            if trial.user_attrs.get("clone") != self.clone and not is_unclaimed:
                continue
            experiment = self.name(trial.number)
            search_trial.stop_orphan(experiment)
            search_trial.remove_copy(experiment)
            if search_trial.has_experiment(self.definition.commit, experiment):
                values = search_trial.read_values(self.definition.commit, experiment, self.objectives, trial.params)
                self.study.tell(trial.number, values)
                terminal.say(f"trial {trial.number} had finished when its search was killed")
            else:
                self.study.tell(trial.number, state=TrialState.FAIL)
                retry()(self.study, trial)
                terminal.say(f"trial {trial.number} was lost when its search was killed: it is retried")


def check_clean(commit: str) -> None:
    """Raises UserError when this clone is not at `commit`, or has changes, which would affect the trials."""
    if changes := git("status", "--porcelain", "--untracked-files=no"):
        changed = ", ".join(line[3:] for line in changes.splitlines()[:5])
        raise UserError(
            f"uncommitted changes ({changed}) would affect the trials: commit or `git stash` them, "
            "and rerun the same command to resume"
        )
    if (head := git("rev-parse", "HEAD")) != commit:
        raise UserError(
            f"the study belongs to commit {commit[:7]}, but this clone is at {head[:7]}: "
            f"run `git switch --detach {commit[:7]}`, or begin another --study"
        )


@contextmanager
def only_search_here(folder: Path) -> Iterator[str]:
    """Holds the lock of this clone, and yields the clone's unique name."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "another search is running in this clone, and DVC runs one experiment at a time in a clone: "
                "wait for it, or join it from another clone with the same --study and --storage"
            ) from None
        name = folder / "clone"
        if not name.exists():
            name.write_text(uuid.uuid4().hex)
        yield name.read_text()


def _raise_interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def run_search(arguments: argparse.Namespace) -> None:
    """Begins or joins the study that the options of `visionloop search` describe, and runs its trials. Raises UserError
    when it cannot."""
    definition = None
    if arguments.space or arguments.objectives:
        definition = Definition(git("rev-parse", "HEAD"), arguments.objectives, arguments.space, arguments.prune)
        definition.parsed()
        check_clean(definition.commit)
    # Handlers, because experiments would inherit the signals that a shell's background job ignores.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _raise_interrupt)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = main_checkout() / ".visionloop" / "search"
    with only_search_here(folder) as clone:
        storage = open_storage(arguments.storage or f"sqlite:///{folder.parent / 'search.db'}")
        digest = hashlib.sha256(definition.text().encode()).hexdigest() if definition else ""
        study = open_study(storage, arguments.study or f"search-{digest[:6]}", definition, arguments.prune_from)
        stored = Definition(**json.loads(study.user_attrs["definition"]))
        check_clean(stored.commit)
        search = Search(study, stored, arguments.trials, folder, clone)
        ref = search_trial.experiment_ref(stored.commit, search.name("*"))
        if not counted(study.trials) and git("for-each-ref", ref):
            raise UserError(
                f"experiments named {search.name('...')} exist here, but the study {study.study_name} is new: "
                "`uv run dvc exp remove` them, or choose another --study"
            )
        terminal.say(search_report.headline(study, search.objectives, counted(study.trials), arguments.trials))
        search.run()
        terminal.say(*search_report.summary(study, search.objectives, stored.commit))
        picture = folder / f"{study.study_name}.png"
        if search_report.draw(study, search.objectives, picture):
            terminal.say(f"plot: {picture}")
