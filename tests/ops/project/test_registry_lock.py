"""ops.project.registry_lock: one promotion at a time over several processes, on a real SQLite store."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ops.project import registry
from ops.project.registry_lock import LOCK, LOCK_SECONDS, promotion_lock, take_name
from stages.running.terminal import UserError
from tests.conftest import ROOT, mlflow_client, user_environment
from tests.running.test_tracking import wait_until

# Takes the lock, leaves a note of that, and keeps it; or says what was in the way.
HOLDER = """
import sys, time
from pathlib import Path
from ops.project.registry_lock import promotion_lock
from stages.running.terminal import run_stage

def main():
    with promotion_lock():
        Path(sys.argv[1] + ".holds").touch()
        time.sleep(60)

run_stage(main)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty store."""
    folder = tmp_path_factory.mktemp("store")
    mlflow_client(f"sqlite:///{folder}/mlflow.db")
    return folder


@pytest.fixture(autouse=True)
def at_the_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    yield
    client = registry.client()
    for model in client.search_registered_models():
        if model.name.startswith(LOCK):
            client.delete_registered_model(model.name)


def holder(store: Path, name: str) -> subprocess.Popen:
    """A process that takes the lock."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, name],
        cwd=store,
        env=user_environment() | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db"},
        stderr=subprocess.PIPE,
        text=True,
    )


def make_lock_older(store: Path, seconds: int) -> None:
    with closing(sqlite3.connect(store / "mlflow.db")) as database, database:
        earlier = "UPDATE registered_models SET creation_time = creation_time - ? WHERE name = ?"
        database.execute(earlier, (seconds * 1000, LOCK))


def test_one_of_two_processes_gets_the_lock_and_when_it_is_killed_it_is_taken_over_after_an_hour(store: Path):
    both = {name: holder(store, name) for name in ("left", "right")}
    wait_until(lambda: any(process.poll() is not None for process in both.values()))
    (winner,) = (name for name in both if (store / f"{name}.holds").exists())
    loser = both["left" if winner == "right" else "right"]
    _, said = loser.communicate(timeout=60)
    assert loser.returncode == 1
    assert f"another promotion is running (held by process {both[winner].pid} on " in said

    both[winner].kill()
    both[winner].communicate(timeout=60)
    make_lock_older(store, LOCK_SECONDS - 100)
    with pytest.raises(UserError, match=f"process {both[winner].pid}"), promotion_lock():
        pass
    make_lock_older(store, 200)
    with promotion_lock():
        (taken,) = registry.client().search_registered_models(f"name = '{LOCK}'")
        assert f"process {both[winner].pid}" not in taken.description
    assert registry.client().search_registered_models(f"name LIKE '{LOCK}%'") == []


def test_of_two_that_find_an_old_lock_one_replaces_it(store: Path):
    take_name(LOCK, "held by nobody any more")
    make_lock_older(store, 2 * LOCK_SECONDS)
    (old,) = registry.client().search_registered_models(f"name = '{LOCK}'")
    take_name(f"{LOCK}-{old.creation_timestamp}", "the other one is replacing it right now")
    with pytest.raises(UserError, match="held by nobody any more"), promotion_lock():
        pass


def test_who_lost_the_lock_does_not_take_it_from_its_new_holder(store: Path):
    with promotion_lock():
        registry.client().delete_registered_model(LOCK)
        take_name(LOCK, "held by somebody else")
    (held,) = registry.client().search_registered_models(f"name = '{LOCK}'")
    assert held.description == "held by somebody else"
