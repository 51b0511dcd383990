"""ops.registry, on a real SQLite store: versions, history, runs, and one promotion at a time over several processes."""

import hashlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ops import registry
from stages.lib.terminal import UserError
from tests.conftest import ROOT, mlflow_client, user_environment
from tests.lib.test_tracking import free_port, wait_until

MODEL = "visionloop-cnn"

# Takes the lock, leaves a note of that, and keeps it; or says what was in the way.
HOLDER = """
import sys, time
from pathlib import Path
from ops import registry
from stages.lib.terminal import run_stage

def main():
    with registry.promotion_lock():
        Path(sys.argv[1] + ".holds").touch()
        time.sleep(60)

run_stage(main)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which a model has two versions; the second is the champion."""
    folder = tmp_path_factory.mktemp("store")
    client = mlflow_client(f"sqlite:///{folder}/mlflow.db")
    client.create_registered_model(MODEL)
    for number in (1, 2):
        artifacts = folder / "model" / str(number) / "artifacts"
        artifacts.mkdir(parents=True)
        (artifacts / "model.keras").write_bytes(b"network %d" % number)
        (artifacts / "classes.json").write_text(json.dumps(["cat", "dog"]))
        digest = hashlib.sha256(b"network %d" % number).hexdigest()
        tags = {"sha256": digest, "bundle_sha256": f"bundle {number}"}
        client.create_model_version(MODEL, source=str(artifacts.parent), tags=tags)
    client.set_registered_model_alias(MODEL, "champion", "2")
    return folder


@pytest.fixture(autouse=True)
def at_the_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    yield
    client = registry.client()
    for model in client.search_registered_models():
        if model.name.startswith(registry.LOCK):
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
        database.execute(earlier, (seconds * 1000, registry.LOCK))


def test_versions_come_newest_first_and_the_champion_is_the_one_with_the_alias():
    assert [version.number for version in registry.versions(MODEL)] == [2, 1]
    champion = registry.champion(MODEL)
    assert champion is not None
    assert (champion.number, champion.tags["bundle_sha256"]) == (2, "bundle 2")
    assert registry.versions("visionloop-gan") == []
    assert registry.champion("visionloop-gan") is None


def test_tags_and_aliases_of_a_version():
    newest, oldest = registry.versions(MODEL)
    registry.tag(oldest, {"promotion.reason": "x" * 9000, "champion.until": "today"})
    oldest = registry.versions(MODEL)[1]
    assert oldest.tags["promotion.reason"] == "x" * registry.TAG_LENGTH
    registry.untag(oldest, "champion.until", "never.there")
    assert "champion.until" not in registry.versions(MODEL)[1].tags
    registry.set_alias(oldest, "candidate")
    registry.set_alias(newest, "candidate")
    assert registry.client().get_model_version_by_alias(MODEL, "candidate").version == 2


def test_the_history_only_grows():
    assert registry.history(MODEL) == []
    assert registry.history("visionloop-gan") == []
    for k in range(12):
        registry.add_to_history(MODEL, f"line {k}")
    assert registry.history(MODEL) == [f"line {k}" for k in range(12)]
    assert registry.client().get_registered_model(MODEL).tags["champion.0012"] == "line 11"


def test_files_of_a_version_are_those_that_were_registered(store: Path, tmp_path: Path):
    newest, oldest = registry.versions(MODEL)
    files = registry.download_version(newest, tmp_path)
    assert (files.network.read_bytes(), files.classes) == (b"network 2", ["cat", "dog"])
    network = store / "model/1/artifacts/model.keras"
    network.write_bytes(b"another")
    with pytest.raises(UserError, match=r"network of version 1 of visionloop-cnn in MLflow is not the one"):
        registry.download_version(oldest, tmp_path / "other")
    network.unlink()
    with pytest.raises(UserError, match="version 1 of visionloop-cnn has no network"):
        registry.download_version(oldest, tmp_path / "third")


def test_a_run_holds_what_was_recorded(tmp_path: Path):
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile/a.txt").write_text("a")
    with registry.new_run("promote", "abcdef0123", {"decision": "promoted"}) as run:
        run.metrics({"cnn.accuracy.low": 0.25})
        run.tags({"more": "yes"})
        run.text("# table", "promotion.md")
        run.artifact(tmp_path / "profile", "profile")
    found = registry.client().get_run(run.run_id)
    assert (found.info.run_name, found.info.status) == ("promote abcdef0", "FINISHED")
    assert found.data.metrics == {"cnn.accuracy.low": 0.25}
    assert {"stage": "promote", "git_commit": "abcdef0123", "more": "yes"}.items() <= found.data.tags.items()
    assert (registry.download(f"runs:/{run.run_id}/profile", tmp_path / "copy") / "a.txt").read_text() == "a"


def test_a_run_whose_work_failed_is_a_failed_one():
    run_ids = []

    def fail() -> None:
        with registry.new_run("promote", "abcdef0123", {}) as run:
            run_ids.append(run.run_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert registry.client().get_run(run_ids[0]).info.status == "FAILED"


def test_without_a_store_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
        assert not registry.exists()
        with pytest.raises(UserError, match="no MLflow store"):
            registry.champion(MODEL)
        assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch):
    port, started = free_port(), time.monotonic()
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
        with pytest.raises(UserError, match=f"does not answer at MLFLOW_TRACKING_URI=http://127.0.0.1:{port}"):
            registry.champion(MODEL)
    assert time.monotonic() - started < 5


def test_what_mlflow_complains_of_becomes_a_sentence_and_our_own_errors_stay():
    with pytest.raises(UserError, match="MLflow did not do its part"), registry.clear_errors():
        registry.client().get_run("f" * 32)
    with pytest.raises(ZeroDivisionError), registry.clear_errors():
        raise ZeroDivisionError


# ---------------------------------------------------------------- one promotion at a time


def test_one_of_two_processes_gets_the_lock_and_when_it_is_killed_it_is_taken_over_after_an_hour(store: Path):
    both = {name: holder(store, name) for name in ("left", "right")}
    wait_until(lambda: any(process.poll() is not None for process in both.values()))
    (winner,) = (name for name in both if (store / f"{name}.holds").exists())
    loser = both["left" if winner == "right" else "right"]
    _, said = loser.communicate(timeout=60)
    assert loser.returncode == 1
    assert f"another promotion is at work (held by process {both[winner].pid} on " in said

    both[winner].kill()
    both[winner].communicate(timeout=60)
    make_lock_older(store, registry.LOCK_SECONDS - 100)
    with pytest.raises(UserError, match=f"process {both[winner].pid}"), registry.promotion_lock():
        pass
    make_lock_older(store, 200)
    with registry.promotion_lock():
        (taken,) = registry.client().search_registered_models(f"name = '{registry.LOCK}'")
        assert f"process {both[winner].pid}" not in taken.description
    assert registry.client().search_registered_models(f"name LIKE '{registry.LOCK}%'") == []


def test_of_two_that_find_an_old_lock_one_replaces_it(store: Path):
    registry._create(registry.LOCK, "held by nobody any more")
    make_lock_older(store, 2 * registry.LOCK_SECONDS)
    (old,) = registry.client().search_registered_models(f"name = '{registry.LOCK}'")
    registry._create(f"{registry.LOCK}-{old.creation_timestamp}", "the other one is replacing it right now")
    with pytest.raises(UserError, match="held by nobody any more"), registry.promotion_lock():
        pass


def test_who_lost_the_lock_does_not_take_it_from_its_new_holder(store: Path):
    with registry.promotion_lock():
        registry.client().delete_registered_model(registry.LOCK)
        registry._create(registry.LOCK, "held by somebody else")
    (held,) = registry.client().search_registered_models(f"name = '{registry.LOCK}'")
    assert held.description == "held by somebody else"
