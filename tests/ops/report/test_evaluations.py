"""ops.report.evaluations: metrics and files are found where the pipeline of a state wrote them."""

import json
from pathlib import Path

import pytest
import yaml

from ops.project.networks import CNN, GAN
from ops.project.revisions import WorkTree
from ops.report.evaluations import JOINT_EVALUATION, evaluation_file, recorded_metrics

RECORDED = {"cnn": {"accuracy": 0.5}, "gan": {"fd": 2.0}}


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkTree:
    monkeypatch.chdir(tmp_path)
    return WorkTree()


def write(*paths: Path, metrics: dict) -> None:
    """A stage's metrics.json, with another file beside it, in dvc.lock."""
    lock = yaml.safe_load(Path("dvc.lock").read_text()) if Path("dvc.lock").exists() else {"stages": {}}
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(metrics))
        (path.parent / "samples.png").touch()
        lock["stages"][path.parent.name] = {"outs": [{"path": str(path), "md5": "0"}]}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))


def test_each_network_has_a_folder_of_its_own(state):
    write(CNN.metrics, metrics={"cnn": RECORDED["cnn"]})
    assert recorded_metrics(state) == {"cnn": RECORDED["cnn"]}
    write(GAN.metrics, metrics={"gan": RECORDED["gan"]})
    assert recorded_metrics(state) == RECORDED
    assert evaluation_file(state, GAN, "samples.png") == GAN.evaluation / "samples.png"
    assert evaluation_file(state, GAN, "other.png") is None


def test_a_state_of_before_has_both_in_one(state):
    write(JOINT_EVALUATION / "metrics.json", metrics=RECORDED)
    assert recorded_metrics(state) == RECORDED
    assert evaluation_file(state, CNN, "samples.png") == JOINT_EVALUATION / "samples.png"


def test_what_an_upgrade_left_lying_is_not_taken(state):
    write(JOINT_EVALUATION / "metrics.json", metrics=RECORDED)
    write(CNN.metrics, metrics={"cnn": {"accuracy": 0.75}})
    CNN.metrics.with_name("samples.png").unlink()
    assert recorded_metrics(state)["cnn"] == {"accuracy": 0.75}
    assert evaluation_file(state, CNN, "samples.png") is None


def test_without_a_pipeline_there_is_nothing(state):
    assert recorded_metrics(state) == {}
    assert evaluation_file(state, CNN, "predictions.csv") is None
