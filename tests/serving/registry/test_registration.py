"""stages.serving.registry.registration: the description, tags and speed of a registered version."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.classifier.base.networks import build_classifier
from stages.evaluation.classifier.registration import register_classifier
from stages.evaluation.generator.registration import register_generator
from stages.running.tracking.record import Run
from stages.serving.registry.registration import inference_tags
from stages.training.network_files import save_network


@pytest.fixture
def run(project: Path) -> Run:
    """Records in a folder, from which nobody delivers."""
    for path in ("stages/serving/classifier/model.py", "stages/serving/generator/model.py"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("# serves")
    save_network(build_classifier("compact", (12, 12, 1), 2, 4), "model.keras")
    Path("classes.json").write_text('["cat", "dog"]')
    (project / "outbox").mkdir()
    return Run(project / "record" / "outbox" / "1-evaluate")


def registered(run: Run) -> dict[str, Any]:
    assert run.folder
    run.events.close()
    return json.loads((run.folder / "events.jsonl").read_text().splitlines()[-1])


def test_a_classifier_is_registered_with_scores_size_and_speed(run):
    np.savez("serving.npz", temperature=1.0)
    scores = {"accuracy": 0.75, "macro_f1": 0.5, "ece": 0.25, "nll_calibrated": 0.125}
    files = [Path("classes.json"), Path("serving.npz")]
    register_classifier(run, Path("model.keras"), files, scores, (12, 12, 1), ["cat", "dog"])
    event = registered(run)
    assert set(event["files"]) == {"model.keras", "classes.json", "serving.npz"}
    tags = event["tags"]
    assert json.loads(tags["classes"]) == ["cat", "dog"]
    assert {name: tags[f"metric.cnn.{name}"] for name in scores} == {k: f"{v:.6g}" for k, v in scores.items()}
    assert float(tags["inference.milliseconds_batch_1"]) > 0
    assert float(tags["inference.images_per_second_batch_256"]) > 0
    assert "12x12 px, grey, 2 classes" in event["description"]
    assert event["signature"]["params"][0]["name"] == "outlier_scores"


def test_a_generator_says_whether_it_listens(run):
    scores = dict.fromkeys(("fd", "fd_floor", "label_accuracy", "cas"), 0.5)
    register_generator(
        run, Path("model.keras"), [Path("classes.json")], scores, (12, 12, 3), ["cat", "dog"], conditional=False
    )
    event = registered(run)
    assert "colour" in event["description"]
    assert "it ignores `class`" in event["description"]
    assert "inference.milliseconds_batch_1" not in event["tags"]


def test_the_size_is_that_of_the_file(tmp_path):
    save_network(build_classifier("compact", (12, 12, 1), 2, 16), tmp_path / "model.keras")
    size = (tmp_path / "model.keras").stat().st_size / 2**20
    assert float(inference_tags(tmp_path / "model.keras")["file_mib"]) == pytest.approx(size, rel=0.01)


def test_nothing_is_timed_where_nothing_is_recorded(project):
    save_network(build_classifier("compact", (12, 12, 1), 2, 4), "model.keras")
    Path("stages/serving/classifier").mkdir(parents=True)
    Path("stages/serving/classifier/model.py").write_text("# serves")
    scores = {"accuracy": 0.75, "macro_f1": 0.5, "ece": 0.25}
    asked = dict[str, str]()

    class Unrecorded(Run):
        def register(self, name, **told):
            asked.update(told["tags"])

    register_classifier(Unrecorded(None), Path("model.keras"), [], scores, (12, 12, 1), ["cat", "dog"])
    assert "metric.cnn.accuracy" in asked
    assert not any(name.startswith("inference.") for name in asked)
