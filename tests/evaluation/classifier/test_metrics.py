"""stages.evaluation.classifier.metrics: the parts of a classifier's evaluation on tiny arrays."""

import numpy as np
import pytest

from stages.evaluation.classifier.metrics import class_table, classifier_metrics, confusion_pairs, probability_metrics
from stages.training.scores import softmax

RANDOM = np.random.default_rng(0)


def test_a_perfect_classifier():
    labels = np.arange(60) % 4
    found, resampled = classifier_metrics(np.eye(4)[labels], np.eye(4)[labels], labels, resamples=100, seed=0)
    assert found["accuracy"] == found["accuracy_high"] == found["macro_f1"] == found["top3_accuracy"] == 1
    assert found["accuracy_low"] == pytest.approx(60 / (60 + 1.959964**2))
    for name in ("nll", "ece", "brier", "nll_calibrated", "ece_calibrated", "brier_calibrated"):
        assert found[name] == found[f"{name}_low"] == found[f"{name}_high"] == 0
    rows = class_table(np.eye(4)[labels], labels, resampled, list("abcd"))
    assert [row["images"] for row in rows] == [15] * 4
    assert {row[key] for row in rows for key in ("precision", "recall", "recall_low", "precision_high")} == {1.0}


@pytest.mark.parametrize(("classes", "key"), [(3, None), (4, "top3_accuracy"), (20, "top5_accuracy")])
def test_intervals_hold_the_figure_and_top_k_follows_the_number_of_classes(classes, key):
    labels = RANDOM.integers(0, classes, 400)
    logits = RANDOM.normal(0, 1, (400, classes)) + 2 * np.eye(classes)[labels]
    found, _ = classifier_metrics(softmax(logits), softmax(2 * logits), labels, resamples=300, seed=0)
    assert [name for name in found if name.startswith("top") and name.endswith("accuracy")] == ([key] if key else [])
    figures = [name for name in found if not name.endswith(("_low", "_high"))]
    assert all({f"{name}_low", f"{name}_high"} <= found.keys() for name in figures)
    for name in (name for name in figures if "ece" not in name):  # a resample's calibration error is larger
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]


def test_a_class_that_never_occurs_has_no_recall():
    labels = np.array([0, 1, 0, 1])
    _, resampled = classifier_metrics(np.eye(3)[labels], np.eye(3)[labels], labels, resamples=100, seed=0)
    row = class_table(np.eye(3)[labels], labels, resampled, list("abc"))[2]
    assert row == {"class": "c", "images": 0} | dict.fromkeys(
        ("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high"), ""
    )


def test_confusions_are_counted_and_the_most_frequent_come_first():
    labels, predicted = np.array([0, 0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 0, 1, 1, 2])
    found = confusion_pairs(np.eye(3)[predicted], labels)
    assert found == [(0, 1, 2), (1, 0, 1), (2, 1, 1)]
    assert confusion_pairs(np.eye(3), np.arange(3)) == []


def test_the_figures_with_intervals_are_those_that_the_gate_compares():
    labels = RANDOM.integers(0, 3, 50)
    probabilities, calibrated = softmax(RANDOM.normal(0, 1, (50, 3))), softmax(RANDOM.normal(0, 2, (50, 3)))
    found, _ = classifier_metrics(probabilities, calibrated, labels, resamples=100, seed=0)
    before, after = probability_metrics(probabilities, labels), probability_metrics(calibrated, labels)
    assert {name: found[name] for name in before} == before
    assert all(found[f"{name}_calibrated"] == after[name] for name in ("nll", "ece", "brier"))
