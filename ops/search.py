"""Searches for better params: `python -m ops.search --minimise gan.val_fd -S 'gan.lr=log(1e-4,1e-2)' --trials 20`.

Optuna proposes params, and each trial is a DVC experiment of the stages that measure the objectives, in a throw-away
copy; its MLflow runs carry the tags `study` and `trial`. What is known of the study is in a database: the same command
takes up a search that was killed, and other clones and machines that give the same --study and --storage take part.

Reads  the commit in this clone, which must have no changes
Writes DVC experiments STUDY-NUMBER, MLflow runs, and in .visionloop: search.db, search/STUDY.png and, with what each
       experiment said, search/STUDY-NUMBER.log
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import signal
import socket
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from ops import search_report, search_trial
from ops.pipeline import git
from ops.search_space import (
    METRICS,
    Objective,
    Space,
    check_together,
    current_values,
    parse_objective,
    parse_space,
    suggest,
)
from ops.search_trial import TrialFailed
from stages.lib import terminal
from stages.lib.checkout import main_checkout
from stages.lib.terminal import Interrupted, UserError

HEARTBEAT_SECONDS, SILENT_SECONDS = 20, 180  # between two signs of life, and after which a trial elsewhere is lost
RETRIES = 3  # of a trial whose machine or search was lost
# Trials that fail one after the other, after which more than their params must be wrong.
FIRST_FAILURES, FAILURES = 3, 6
UNPRUNED = 5  # trials before --prune begins


class Surplus(Exception):
    """Another machine took the last trial in the same moment."""


@dataclass(frozen=True)
class Definition:
    """What makes a study: kept with it, so that whoever joins searches for the same."""

    commit: str
    objectives: list[list[str]]  # [name, direction]
    space: list[str]  # words of -S
    prune: str | None

    def parsed(self) -> tuple[list[Objective], Space]:
        """The objectives and the space. Raises UserError when there is anything wrong with them."""
        space = parse_space(self.space)
        objectives = [parse_objective(name, direction) for name, direction in self.objectives]  # type: ignore[arg-type]
        check_together(space, objectives, self.prune)
        return objectives, space

    def text(self) -> str:
        """As it is kept."""
        return json.dumps(vars(self), sort_keys=True)


# ---------------------------------------------------------------- the command line


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ops.search",
        description=__doc__.split("\n\n")[1],
        epilog=f"Metrics: {', '.join(METRICS)}. See docs/search.md.",
    )
    for direction in ("minimise", "maximise"):
        parser.add_argument(
            f"--{direction}",
            dest="objectives",
            action="append",
            default=[],
            type=partial(_with_direction, direction),
            metavar="METRIC",
            help="a metric of the validation images, or a searched param as a cost; may be given several times",
        )
    parser.add_argument(
        "-S",
        dest="space",
        action="append",
        default=[],
        metavar="PARAM=SPACE",
        help="log(1e-4,1e-2), float(0,0.3), int(2,12), or values such as 32,48,64",
    )
    parser.add_argument(
        "--trials", type=int, default=20, metavar="N", help="in total, on all machines; default: %(default)s"
    )
    parser.add_argument("--study", metavar="NAME", help="default: made of the commit and what is searched for")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="sqlite:////path/search.db or postgresql://user@host/database; default: .visionloop/search.db",
    )
    parser.add_argument(
        "--prune", choices=["median"], help="stop a trial that is worse than the median of those before, midway"
    )
    parser.add_argument(
        "--prune-from",
        type=int,
        default=UNPRUNED,
        metavar="N",
        help="finished trials before that; default: %(default)s",
    )
    given = parser.parse_args(words)
    if given.trials < 1 or given.prune_from < 1:
        parser.error("--trials and --prune-from: expected 1 or more")
    if not given.space and not given.objectives and not given.study:
        parser.error("expected -S PARAM=SPACE and --minimise or --maximise METRIC, or a --study to take part in")
    if given.study and not re.fullmatch(r"\w[\w.-]*", given.study, re.ASCII):
        parser.error(f"--study {given.study!r}: experiments are named after it: expected letters, digits, . _ and -")
    if given.prune and not given.space:
        parser.error("--prune is said when a study begins, with -S and an objective")
    return given


def _with_direction(direction: str, name: str) -> list[str]:
    return [name, direction]


# ---------------------------------------------------------------- the study


def open_storage(url: str) -> RDBStorage:
    """The database of studies, made where there is none. Raises UserError when it cannot be had."""
    try:
        address = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise UserError(
            f"--storage is {url!r}, expected an address such as sqlite:////path/search.db or postgresql://host/database"
        ) from None
    connect = {"timeout": 60} if address.drivername.startswith("sqlite") else {}
    if address.drivername.startswith("postgresql"):
        connect = {"connect_timeout": 10}
    for attempt in range(3):  # two that make the same tables at once get in each other's way
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the heartbeat
                return RDBStorage(
                    address.render_as_string(hide_password=False),
                    engine_kwargs={"connect_args": connect, "pool_pre_ping": True},
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=SILENT_SECONDS,
                    heartbeat_stale_trial_callback=retry(),
                )
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError) as error:
            problem = " ".join(str(getattr(error, "orig", None) or error).split())
            if "already exists" not in problem and not isinstance(error, sqlalchemy.exc.IntegrityError):
                break
            time.sleep(1 + attempt)
    raise UserError(f"the studies at {address.render_as_string()} cannot be opened: {problem[:300]}")


def retry(times: int | None = RETRIES) -> RetryHeartbeatStaleTrialCallback:
    """Puts a lost trial's params back, to be tried again; at most so many times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return RetryHeartbeatStaleTrialCallback(max_retry=times)


def open_study(storage: RDBStorage, name: str, definition: Definition | None, prune_from: int) -> optuna.Study:
    """The study, made if it is new. Raises UserError when it is about something else than `definition`; None is right
    for any that there is."""
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    is_new = False
    if definition:
        if definition.prune:
            pruner = optuna.pruners.MedianPruner(n_startup_trials=prune_from)
        objectives, space = definition.parsed()
        directions = [o.direction.replace("mise", "mize") for o in objectives]
        with suppress(optuna.exceptions.DuplicatedStudyError):
            optuna.create_study(storage=storage, study_name=name, directions=directions)  # type: ignore[arg-type]
            is_new = True
    try:
        study = optuna.load_study(study_name=name, storage=storage, pruner=pruner)
    except KeyError:
        raise UserError(f"there is no study {name}: give -S and --minimise or --maximise to begin it") from None
    if definition and "definition" not in study.user_attrs:
        study.set_user_attr("definition", definition.text())
    if is_new:
        if baseline := current_values(space):
            study.enqueue_trial(baseline)  # so that the table says what was won
        return study
    if "definition" not in study.user_attrs:
        raise UserError(f"the study {name} was not made by ops.search: take another --study")
    if not definition:
        return open_study(storage, name, Definition(**json.loads(study.user_attrs["definition"])), prune_from)
    _check_same(study, definition)
    return study


def _check_same(study: optuna.Study, definition: Definition) -> None:
    kept = json.loads(study.user_attrs["definition"])
    for key, value in vars(definition).items():
        if kept[key] != value:
            raise UserError(
                f"the study {study.study_name} has {key} {_shown(kept[key])}, and this is {_shown(value)}: "
                "take another --study, or --study and --storage alone to take part in it"
            )


def _shown(value: Any) -> str:
    return " ".join(part if isinstance(part, str) else " ".join(part) for part in value) if value else "none"


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those that count as one of --trials: begun, and not put back because their machine was lost."""
    # Where RetryHeartbeatStaleTrialCallback notes which trials it tries again.
    put_back = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    return [
        trial
        for trial in trials
        if trial.state != TrialState.WAITING and trial.number not in put_back and "surplus" not in trial.user_attrs
    ]


# ---------------------------------------------------------------- the search


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
                raise Interrupted(f"trial {self.interrupted} goes on with the same command") from None
            except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                problem = " ".join(str(getattr(error, "orig", None) or error).split())
                raise UserError(f"the database is gone ({problem[:300]}): the same command goes on") from error
            except ValueError as error:
                if "Cannot tell" not in str(error):
                    raise
                terminal.say("a trial was silent for so long that it counts as lost, and is tried again")
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
            f"uncommitted changes ({changed}) would get into the trials: commit them, or `git stash`. "
            "The same command then goes on"
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


def _raise_interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    given = parse()
    definition = None
    if given.space or given.objectives:
        definition = Definition(git("rev-parse", "HEAD"), given.objectives, given.space, given.prune)
        definition.parsed()
        check_clean(definition.commit)
    if given.prune and os.environ.get("VISIONLOOP_TRACKING") == "off":
        raise UserError("--prune looks at what the stages record, which VISIONLOOP_TRACKING=off forbids: unset it")
    # Handlers, so that the experiments do not inherit what a shell in the background ignores.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _raise_interrupt)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = main_checkout() / ".visionloop" / "search"
    with only_search_here(folder) as clone:
        storage = open_storage(given.storage or f"sqlite:///{folder.parent / 'search.db'}")
        digest = hashlib.sha256(definition.text().encode()).hexdigest() if definition else ""
        study = open_study(storage, given.study or f"search-{digest[:6]}", definition, given.prune_from)
        kept = Definition(**json.loads(study.user_attrs["definition"]))
        check_clean(kept.commit)
        search = Search(study, kept, given.trials, folder, clone)
        ref = search_trial.experiment_ref(kept.commit, search.name("*"))
        if not counted(study.trials) and git("for-each-ref", ref):
            raise UserError(
                f"experiments named {search.name('...')} are here from a study of which {study.study_name} knows "
                "nothing: `uv run dvc exp remove` them, or take another --study"
            )
        terminal.say(search_report.headline(study, search.objectives, counted(study.trials), given.trials))
        search.run()
        terminal.say(*search_report.summary(study, search.objectives, kept.commit))
        picture = folder / f"{study.study_name}.png"
        if search_report.draw(study, search.objectives, picture):
            terminal.say(f"look at {picture}")


if __name__ == "__main__":
    terminal.run_stage(main)
