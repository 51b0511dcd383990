"""ops.report.mlflow_links: runs and versions are found by the bytes of the networks, in a real store."""

import hashlib
import socket
import time
from pathlib import Path

import pytest

from ops.pages.document import Document, Link, Section, Table
from ops.pages.markdown import markdown
from ops.project import registry
from ops.project.networks import NETWORKS
from ops.report import mlflow_links as report_mlflow


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    for network in NETWORKS.values():
        network.file.parent.mkdir(parents=True)
        network.file.write_text(str(network.file))
    return tmp_path


def test_runs_and_versions_are_found_by_their_hashes(networks, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{networks}/mlflow.db")
    Path("mlflow.db").touch()
    client = registry.client()
    experiment = client.create_experiment("visionloop", artifact_location=(networks / "artifacts").as_uri())
    sha256 = hashlib.sha256(b"data/train_cnn/model.keras").hexdigest()
    run = client.create_run(experiment, tags={"model_sha256": sha256}, run_name="train_cnn abc1234").info.run_id
    client.create_run(experiment, tags={"model_sha256": "another"})
    client.create_registered_model("visionloop-cnn")
    for bytes_of in ("another", sha256):
        client.create_model_version("visionloop-cnn", source="nowhere", tags={"sha256": bytes_of})
    client.set_registered_model_alias("visionloop-cnn", "champion", "2")
    found = report_mlflow.section()
    assert isinstance(found, Section)
    table = found.blocks[0]
    assert isinstance(table, Table)
    ((_, runs, versions),) = table.rows  # MLflow does not know the generator
    assert (runs, versions) == ([f"train_cnn abc1234 ({run[:8]})"], ["visionloop-cnn version 2 (champion)"])


def test_pages_of_a_server_are_linked_without_the_password(networks, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host:5000/mlflow/")
    link = report_mlflow.linked("version 2", "models/visionloop-cnn/versions/2")
    assert link == Link("version 2", "https://host:5000/mlflow/#/models/visionloop-cnn/versions/2")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////x/mlflow.db")
    assert report_mlflow.linked("version 2", "models") == "version 2"


def test_a_server_that_does_not_answer_costs_a_sentence_and_little_time(networks, monkeypatch):
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}")
        started = time.monotonic()
        found = report_mlflow.section()
    assert time.monotonic() - started < 4
    assert found is not None
    text = markdown(Document("", "", "", [found], ""))
    assert "*MLflow does not answer at " in text
    assert "secret" not in text


def test_without_networks_there_is_nothing_to_look_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report_mlflow.section() is None
