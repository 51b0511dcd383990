"""The whole report of a tiny classifier."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stages.classifier.base.networks import build_classifier
from stages.evaluation.classifier.report import ClassifierReport
from stages.training.network_files import save_network
from stages.training.tensorflow import keras
from tests.conftest import tiny_ingest

PARAMS = {
    "resamples": 100,
    "corrupted_images": 10,
    "outlier_images": 20,
    "outlier_bank": 20,
    "neighbours": 3,
    "accepted": 0.9,
    "label_images": 30,
    "label_steps": 3,
    "label_batch_size": 8,
    "label_lr": 0.005,
    "seed": 0,
}
FILES = {
    *("classes.csv", "confusions.csv", "corruptions.csv", "label_errors.csv", "predictions.csv", "serving.npz"),
    *("confusion.png", "reliability.png", "risk_coverage.png", "confusions.png", "mistakes.png", "evidence.png"),
    *("mistakes_neighbours.png", "label_errors.png", "corruptions.png", "outliers.png"),
}


def measure(project: Path, folder: str, **changes):
    out = project / folder
    out.mkdir()
    params = SimpleNamespace(**(PARAMS | changes))
    return ClassifierReport(out, project / "model.keras", project / "data/ingest", params).write(), out


def write_network(project: Path, channels: int) -> None:
    tiny_ingest(project, channels=channels)
    keras.utils.set_random_seed(0)
    save_network(build_classifier("compact", (12, 12, channels), 3, 4), project / "model.keras")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_figures_tables_and_pictures_agree(project):
    write_network(project, 3)
    metrics, folder = measure(project, "out")
    assert {path.name for path in folder.iterdir()} == FILES
    assert all(np.isfinite(value) for value in metrics.values())
    predictions = rows(folder / "predictions.csv")
    assert np.mean([row["class"] == row["predicted"] for row in predictions]) == pytest.approx(metrics["accuracy"])
    for row in predictions:  # an image keeps its name
        assert row["source"].startswith(f"test/{row['class']}/")
        probabilities = {name: float(row[f"p_{name}"]) for name in ("ball", "box", "cup")}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert float(row["confidence"]) == max(probabilities.values()) == probabilities[row["predicted"]]
        assert np.isfinite(float(row["outlier_score"]))
    assert len({row["source"] for row in predictions}) == len(predictions)
    wrong = sum(int(row["images"]) for row in rows(folder / "confusions.csv"))
    assert wrong == round((1 - metrics["accuracy"]) * len(predictions))
    corrupted = [float(row["accuracy"]) for row in rows(folder / "corruptions.csv")]
    assert len(corrupted) == 16
    assert np.mean(corrupted[1:]) == pytest.approx(metrics["corrupted_accuracy"], abs=1e-5)
    suspects = rows(folder / "label_errors.csv")
    assert len(suspects) == metrics["suspected_test_labels"] + metrics["suspected_train_labels"]
    scores = [float(row["score"]) for row in suspects]
    assert scores == sorted(scores, reverse=True)
    for row in suspects:  # the source says split and class, as the data set was written
        assert row["source"].split("/")[:2] == [row["split"], row["given"]]
        assert row["given"] != row["suggested"]
    with np.load(folder / "serving.npz", allow_pickle=False) as serving:
        assert serving["temperature"] == metrics["temperature"]
        assert len(serving["bank"]) in (0, 20)
    for name in ("aurc", "corrupted_accuracy", "auroc_noise", "auroc_photos", "auroc_digits"):
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
    assert metrics["corrupted_accuracy_low"] < metrics["corrupted_accuracy_high"]


def test_the_same_inputs_give_the_same_bytes(project):
    write_network(project, 1)
    first, second = (measure(project, name, label_images=0) for name in ("a", "b"))
    assert first[0] == second[0]
    for path in first[1].iterdir():
        assert path.read_bytes() == (second[1] / path.name).read_bytes(), path.name


def test_what_is_switched_off_leaves_no_figure_and_all_files(project):
    write_network(project, 1)
    metrics, folder = measure(project, "out", corrupted_images=0, label_images=0, outlier_bank=0)
    assert not {"corrupted_accuracy", "suspected_train_labels"} & metrics.keys()
    assert {path.name for path in folder.iterdir()} == FILES
    assert rows(folder / "corruptions.csv") == []
    assert {row["split"] for row in rows(folder / "label_errors.csv")} <= {"test"}
    with np.load(folder / "serving.npz", allow_pickle=False) as serving:
        assert len(serving["bank"]) == 0
