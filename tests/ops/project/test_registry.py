"""ops.project.registry, on a real SQLite store: versions, history and runs."""

import hashlib
import json
import time
from pathlib import Path

import pytest

from ops.project import registry
from stages.running.terminal import UserError
from tests.conftest import mlflow_client
from tests.running.test_tracking import free_port

MODEL = "visionloop-cnn"


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
def at_the_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")


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
    with pytest.raises(UserError, match=r"network of version 1 of visionloop-cnn in MLflow has changed"):
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
    with pytest.raises(UserError, match="MLflow request failed"), registry.mlflow_errors_as_user_errors():
        registry.client().get_run("f" * 32)
    with pytest.raises(ZeroDivisionError), registry.mlflow_errors_as_user_errors():
        raise ZeroDivisionError
