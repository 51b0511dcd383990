"""A study: its database, its definition, and the trials that count.

Reads and writes the database of studies, which several clones and machines can share.
"""

import json
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from ops.search.checks import check_together
from ops.search.objectives import Objective, parse_objective
from ops.search.space import Space, current_values, parse_space
from stages.running.terminal import UserError

HEARTBEAT_SECONDS, SILENT_SECONDS = 20, 180  # between heartbeats, and until a trial without them counts as lost
RETRIES = 3  # of a trial whose machine or search was lost


@dataclass(frozen=True)
class Definition:
    """The definition of a study, stored with it, so that all who join run the same search."""

    commit: str
    objectives: list[list[str]]  # [name, direction]
    space: list[str]  # words of -S
    prune: str | None

    def parsed(self) -> tuple[list[Objective], Space]:
        """The objectives and the space. Raises UserError when they are invalid."""
        space = parse_space(self.space)
        objectives = [parse_objective(name, direction) for name, direction in self.objectives]  # type: ignore[arg-type]
        check_together(space, objectives, self.prune)
        return objectives, space

    def text(self) -> str:
        """The stored form."""
        return json.dumps(vars(self), sort_keys=True)


def open_storage(url: str) -> RDBStorage:
    """Opens the database of studies, or creates it. Raises UserError when that fails."""
    try:
        address = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise UserError(
            f"--storage is {url!r}, expected an address such as sqlite:////path/search.db or postgresql://host/database"
        ) from None
    connect = {"timeout": 60} if address.drivername.startswith("sqlite") else {}
    if address.drivername.startswith("postgresql"):
        connect = {"connect_timeout": 10}
    for attempt in range(3):  # two processes that create the tables at the same time conflict
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
            problem = database_problem(error)
            if "already exists" not in problem and not isinstance(error, sqlalchemy.exc.IntegrityError):
                break
            time.sleep(1 + attempt)
    raise UserError(f"the studies at {address.render_as_string()} cannot be opened: {problem}")


def database_problem(error: BaseException) -> str:
    """The database's error message, on one line of at most 300 characters."""
    return " ".join(str(getattr(error, "orig", None) or error).split())[:300]


def retry(times: int | None = RETRIES) -> RetryHeartbeatStaleTrialCallback:
    """A callback that requeues the params of a lost trial, at most `times` times."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return RetryHeartbeatStaleTrialCallback(max_retry=times)


def open_study(storage: RDBStorage, name: str, definition: Definition | None, prune_from: int) -> optuna.Study:
    """Opens the study, or creates it. Raises UserError when its stored definition is not `definition`; None accepts any
    existing study."""
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
            study.enqueue_trial(baseline)  # so that the table shows the improvement over params.yaml
        return study
    if "definition" not in study.user_attrs:
        raise UserError(f"the study {name} was not made by `visionloop search`: choose another --study")
    if not definition:
        return open_study(storage, name, Definition(**json.loads(study.user_attrs["definition"])), prune_from)
    _check_same(study, definition)
    return study


def _check_same(study: optuna.Study, definition: Definition) -> None:
    stored = json.loads(study.user_attrs["definition"])
    for key, value in vars(definition).items():
        if stored[key] != value:
            raise UserError(
                f"the study {study.study_name} has {key} {_shown(stored[key])}, this command has {_shown(value)}: "
                "choose another --study, or give only --study and --storage to join it"
            )


def _shown(value: Any) -> str:
    return " ".join(part if isinstance(part, str) else " ".join(part) for part in value) if value else "none"


def counted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count towards --trials: started, and not requeued after their machine was lost."""
    # RetryHeartbeatStaleTrialCallback records the trials that it requeues in this attribute.
    requeued = {number for trial in trials for number in trial.system_attrs.get("retry_history", [])}
    return [
        trial
        for trial in trials
        if trial.state != TrialState.WAITING and trial.number not in requeued and "surplus" not in trial.user_attrs
    ]
