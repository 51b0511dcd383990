"""stages.reference: two networks, of which the first is what it is whatever becomes of the second."""

import csv
import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages import reference
from stages.running.terminal import Interrupted, UserError
from stages.training.network_files import load_network
from tests.conftest import ROOT, tiny_ingest

SMALL = {"steps": 20, "batch_size": 16}


@pytest.fixture
def ready(project: Path) -> Path:
    """A project in which the stage can run."""
    tiny_ingest(project)
    passed = project / "data/validate/passed"
    passed.parent.mkdir()
    passed.write_text("tiny\n")
    for name in ("dvc.yaml", "versions.yaml"):
        shutil.copy(ROOT / name, project)
    (project / ".dvc").mkdir()
    (project / "stages").symlink_to(ROOT / "stages")
    return project


def run(**params) -> dict[str, bytes]:
    """Runs the stage; what it writes, by name."""
    document = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    document["reference"] |= SMALL | params
    Path("params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    reference.main()
    return {path.name: path.read_bytes() for path in reference.OUTPUT.iterdir()}


def saved_weights() -> list[list[np.ndarray]]:
    """Of the first and of the second network."""
    return [load_network(reference.OUTPUT / name).get_weights() for name in ("model.keras", "second.keras")]


def test_both_rulers_are_written_and_the_first_is_the_same_whatever_the_second(ready):
    run(second_seed=2)
    before = saved_weights()
    run(second_seed=1)
    weights = saved_weights()
    assert [w.shape for w in weights[0]] == [w.shape for w in weights[1]]
    assert (weights[0][0] != weights[1][0]).any()
    assert all((a == b).all() for a, b in zip(weights[0], before[0], strict=True))
    assert any((a != b).any() for a, b in zip(weights[1], before[1], strict=True))
    with (reference.OUTPUT / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(2, 21, 2))
    assert list(rows[0]) == ["step", "loss", "accuracy", "second_loss", "second_accuracy"]
    assert rows[-1]["loss"] != rows[-1]["second_loss"]
    metrics = json.loads((reference.OUTPUT / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["reference"].keys() == {"val_accuracy", "second_val_accuracy"}
    assert list(Path(".visionloop/checkpoints").glob("*/")) == []


def test_two_equal_seeds_are_no_second_opinion(ready):
    with pytest.raises(UserError, match="`reference`: seed and second_seed must differ"):
        run(seed=3, second_seed=3)


def interrupt_in_the_second_training() -> None:
    """Waits for its first checkpoint."""
    folder, deadline = Path(".visionloop/checkpoints").absolute(), time.monotonic() + 100
    while len({path.parent for path in folder.glob("*/*.npz")}) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_interrupted_in_the_second_training_it_goes_on_there_and_ends_alike(ready, monkeypatch, capsys):
    monkeypatch.setenv("VISIONLOOP_CHECKPOINT_SECONDS", "0")
    watcher = threading.Thread(target=interrupt_in_the_second_training)
    watcher.start()
    with pytest.raises(Interrupted):
        run(steps=100)
    watcher.join()
    assert not reference.OUTPUT.exists()
    assert len(list(Path(".visionloop/checkpoints").glob("*/"))) == 2
    capsys.readouterr()
    resumed = run(steps=100)
    said = capsys.readouterr().out
    assert "  reference: resuming at step 100 of 100" in said
    assert re.search(r"second reference: resuming at step \d+ of 100", said)
    resumed_weights = saved_weights()
    undisturbed = run(steps=100)
    for name in ("history.csv", "metrics.json"):
        assert undisturbed[name] == resumed[name]
    for before, after in zip(resumed_weights, saved_weights(), strict=True):
        assert all((a == b).all() for a, b in zip(before, after, strict=True))
