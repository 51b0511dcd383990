"""A lock in MLflow's registry, so that only one process of all machines that share the store promotes at a time."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ops.project.registry import client, now
from stages.running.terminal import UserError

LOCK = "visionloop-promotion-lock"
LOCK_SECONDS = 3600  # a promotion takes minutes: the holder of an older lock was killed


@contextmanager
def promotion_lock() -> Iterator[None]:
    """Holds the lock for the block. The lock is a registered model, as a model's name can be taken only once.

    Raises UserError naming the holder when another process has it. Takes over a lock that is older than an hour.
    """
    mine = f"held by process {os.getpid()} on {socket.gethostname()} since {now()}"
    if not take_name(LOCK, mine):
        _take_over_if_old(mine)
    try:
        yield
    finally:
        held = _holder()
        if held is not None and held.description == mine:  # unless another process took it over
            client().delete_registered_model(LOCK)


def take_name(name: str, description: str) -> bool:
    """Registers a model of this name; False when it already exists."""
    from mlflow import MlflowException

    try:
        client().create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    return True


def _holder() -> Any:
    """The registered model that serves as the lock; None when the lock is free."""
    found = client().search_registered_models(f"name = '{LOCK}'")
    return found[0] if found else None


def _take_over_if_old(mine: str) -> None:
    held = _holder()
    if held is not None and datetime.now(UTC).timestamp() - held.creation_timestamp / 1000 > LOCK_SECONDS:
        # Two processes may find it old at once: the one that takes this second name may replace the lock, if it is
        # still the old one.
        takeover = f"{LOCK}-{held.creation_timestamp}"
        if take_name(takeover, mine):
            try:
                current = _holder()
                if current is not None and current.creation_timestamp == held.creation_timestamp:
                    client().delete_registered_model(LOCK)
            finally:
                client().delete_registered_model(takeover)
    if not take_name(LOCK, mine):
        held = _holder()
        holder = held.description if held is not None else "held by a process that has just ended"
        raise UserError(
            f"another promotion is running ({holder}): try again when it is done, which takes minutes; if it was "
            f"killed, delete the registered model {LOCK} in MLflow, or wait for an hour"
        )
