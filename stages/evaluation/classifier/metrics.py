"""Metrics of a classifier on the test images, with their intervals, and tables by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.evaluation.classifier import scores
from stages.evaluation.classifier.intervals import Resampled, bootstrap, interval
from stages.evaluation.classifier.table import METRICS
from stages.evaluation.reporting.metric import computed
from stages.training.scores import accuracy, negative_log_likelihood


def probability_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of probabilities [n, classes] for labels [n], which evaluate_cnn reports and the gate compares."""
    return {
        "accuracy": accuracy(probabilities, labels),
        "macro_f1": scores.macro_f1(probabilities, labels),
        "nll": negative_log_likelihood(probabilities, labels),
        "ece": scores.expected_calibration_error(probabilities, labels),
        "brier": scores.brier_score(probabilities, labels),
    }


def classifier_metrics(
    probabilities: np.ndarray, calibrated: np.ndarray, labels: np.ndarray, *, resamples: int, seed: int
) -> tuple[dict[str, float], Resampled]:
    """Metrics of probabilities [n, classes] before and after calibration for labels [n] of the test images, and their
    values on resampled images.

    `_low` and `_high` are the bounds of 95% intervals: Wilson's for the accuracy, which is valid at 1 too, and those of
    the bootstrap for the rest.
    """
    measured = probability_metrics(probabilities, labels)
    after = probability_metrics(calibrated, labels)
    measured |= {f"{name}_calibrated": after[name] for name in ("nll", "ece", "brier")}
    k = 5 if probabilities.shape[1] >= 20 else 3
    if probabilities.shape[1] > k:  # otherwise it is 1 by definition
        measured[f"top{k}_accuracy"] = scores.top_k_accuracy(probabilities, labels, k)
    resampled = bootstrap(probabilities, calibrated, labels, k, resamples, seed)
    metrics: dict[str, float] = {}
    for name, value in measured.items():
        metrics |= with_interval(name, value, resampled.metrics[name])
    low, high = scores.wilson_interval(measured["accuracy"], len(labels))
    metrics |= {"accuracy_low": low, "accuracy_high": high}
    return metrics | computed(METRICS, probabilities, labels), resampled


def with_interval(name: str, value: float, resampled: np.ndarray) -> dict[str, float]:
    """A metric with the bounds of its 95% interval, from its values on resampled images."""
    low, high = interval(resampled)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def class_table(
    probabilities: np.ndarray, labels: np.ndarray, resampled: Resampled, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Precision and recall of each class with their intervals; empty where undefined."""
    precision, recall = scores.class_precision_and_recall(probabilities, labels)
    counts, rows = np.bincount(labels, minlength=len(classes)), []
    for k, name in enumerate(classes):
        row: dict[str, Any] = {"class": name, "images": int(counts[k])}
        for metric, value, values in (
            ("precision", precision[k], resampled.precision[:, k]),
            ("recall", recall[k], resampled.recall[:, k]),
        ):
            found = (value, *interval(values)) if not np.isnan(value) else ("", "", "")
            row |= dict(zip((metric, f"{metric}_low", f"{metric}_high"), map(_plain, found), strict=True))
        rows.append(row)
    return rows


def confusion_pairs(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[int, int, int]]:
    """Class, prediction and number of images of every confusion, most frequent first."""
    matrix = scores.confusion_matrix(probabilities, labels)
    np.fill_diagonal(matrix, 0)
    found = np.argwhere(matrix > 0)
    counts = matrix[found[:, 0], found[:, 1]]
    order = np.argsort(-counts, kind="stable")
    pairs = zip(found[order].tolist(), counts[order].tolist(), strict=True)
    return [(true, predicted, count) for (true, predicted), count in pairs]


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, np.floating) else value
