"""What evaluate says of the classifier: figures with their intervals, tables, and what the registered model needs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib import classification_metrics as classification
from stages.lib.classifier_space import ClassifierSpace
from stages.lib.corruptions import CORRUPTIONS, corrupt
from stages.lib.intervals import Resampled, bootstrap, interval
from stages.lib.out_of_distribution import (
    area_under_roc,
    digit_images,
    energy,
    neighbour_distance,
    noise_images,
    photo_images,
    unit_length,
)
from stages.lib.outputs import write_table
from stages.lib.reference_training import ReferenceTraining
from stages.lib.serving import Serving

DIGITS = [str(digit) for digit in range(10)]


def classifier_metrics(
    probabilities: np.ndarray, calibrated: np.ndarray, labels: np.ndarray, *, resamples: int, seed: int
) -> tuple[dict[str, float], Resampled]:
    """Figures of probabilities [n, classes] before and after calibration for labels [n] of the test images, and their
    values on resampled images.

    `_low` and `_high` are the ends of 95% intervals: Wilson's for the accuracy, which holds at 1 too, and those of the
    bootstrap for the rest.
    """
    accuracy = classification.accuracy(probabilities, labels)
    low, high = classification.wilson_interval(accuracy, len(labels))
    k = 5 if probabilities.shape[1] >= 20 else 3
    resampled = bootstrap(probabilities, calibrated, labels, k, resamples, seed)
    figures = {
        "macro_f1": classification.macro_f1(probabilities, labels),
        "nll": classification.negative_log_likelihood(probabilities, labels),
        "ece": classification.expected_calibration_error(probabilities, labels),
        "brier": classification.brier_score(probabilities, labels),
        "nll_calibrated": classification.negative_log_likelihood(calibrated, labels),
        "ece_calibrated": classification.expected_calibration_error(calibrated, labels),
        "brier_calibrated": classification.brier_score(calibrated, labels),
    }
    if probabilities.shape[1] > k:  # else it is 1 by definition
        figures[f"top{k}_accuracy"] = classification.top_k_accuracy(probabilities, labels, k)
    metrics = {"accuracy": accuracy, "accuracy_low": low, "accuracy_high": high}
    for name, value in figures.items():
        metrics |= with_interval(name, value, resampled.figures[name])
    return metrics, resampled


def with_interval(name: str, value: float, resampled: np.ndarray) -> dict[str, float]:
    """A figure with the ends of its 95% interval, from its values on resampled images."""
    low, high = interval(resampled)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def class_table(
    probabilities: np.ndarray, labels: np.ndarray, resampled: Resampled, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Precision and recall of each class with their intervals; empty where there is nothing to take a share of."""
    precision, recall = classification.class_precision_and_recall(probabilities, labels)
    counts, rows = np.bincount(labels, minlength=len(classes)), []
    for k, name in enumerate(classes):
        row: dict[str, Any] = {"class": name, "images": int(counts[k])}
        for what, value, values in (
            ("precision", precision[k], resampled.precision[:, k]),
            ("recall", recall[k], resampled.recall[:, k]),
        ):
            found = (value, *interval(values)) if not np.isnan(value) else ("", "", "")
            row |= dict(zip((what, f"{what}_low", f"{what}_high"), map(_plain, found), strict=True))
        rows.append(row)
    return rows


def confusion_pairs(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[int, int, int]]:
    """Class, prediction and number of images of every confusion that occurs, most frequent first."""
    matrix = classification.confusion_matrix(probabilities, labels)
    np.fill_diagonal(matrix, 0)
    found = np.argwhere(matrix > 0)
    counts = matrix[found[:, 0], found[:, 1]]
    order = np.argsort(-counts, kind="stable")
    return [(int(of), int(to), int(count)) for (of, to), count in zip(found[order], counts[order], strict=True)]


def corrupted_hits(
    space: ClassifierSpace, images: np.ndarray, labels: np.ndarray, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Which of the uint8 images [n, h, w, c] are classified right, bool [n], as they are (`clean`) and under each
    corruption, and an image of each."""
    hits, examples = {}, {}
    for name in ("clean", *CORRUPTIONS):
        corrupted = images if name == "clean" else corrupt(name, images, seed)
        hits[name] = space(corrupted)[1].argmax(axis=1) == labels
        examples[name] = corrupted[0]
    return hits, examples


def strange_images(shape: Sequence[int], count: int, classes: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Images of kinds that the classifier was not trained on, uint8 [at most count, *shape]: `noise`, `photos`, and
    `digits` unless digits are its classes."""
    makers: dict[str, Callable[..., np.ndarray]] = {"noise": noise_images, "photos": photo_images}
    if sorted(classes) != DIGITS:
        makers["digits"] = digit_images
    return {name: make(shape, count, seed) for name, make in makers.items()}


def choose_outlier_score(
    val: tuple[np.ndarray, np.ndarray],
    noise: tuple[np.ndarray, np.ndarray],
    bank: np.ndarray,
    *,
    neighbours: int,
    accepted: float,
    temperature: float,
) -> Serving:
    """The outlier score that tells noise from validation images better, energy where both do equally well, and the
    threshold that a share `accepted` of the validation images is below.

    val, noise: features [n, d] and logits [n, classes]. bank: features of training images [m, d]; without any it is the
    energy. What it is tried on later (digits, photographs, test images) takes no part.
    """
    by_energy = area_under_roc(energy(val[1]), energy(noise[1]))
    empty = np.zeros((0, bank.shape[1]), np.float32)
    serving = Serving(temperature, 0.0, neighbours, empty)
    if len(bank):
        by_distance = area_under_roc(*(neighbour_distance(part[0], bank, neighbours) for part in (val, noise)))
        if by_distance > by_energy:
            serving = serving._replace(bank=unit_length(bank).astype(np.float32))
    return serving._replace(threshold=float(np.quantile(serving.scores(*val), accepted)))


def held_out_probabilities(
    images: np.ndarray, labels: np.ndarray, classes: int, *, steps: int, batch_size: int, lr: float, seed: int
) -> np.ndarray:
    """Probabilities float64 [n, classes] of images [n, h, w, c] by networks of the reference's design that were trained
    on the other half of them: every second image of each class."""
    half = np.empty(len(labels), int)
    half[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 2
    probabilities = np.zeros((len(labels), classes))
    for k in range(2):
        inside, outside = half == k, half != k
        training = ReferenceTraining(
            [images[outside]], labels[outside], classes, steps=steps, batch_size=batch_size, lr=lr, seed=seed
        )
        for _ in training.reports(f"classifier on half {k + 1} of the train set", "lower evaluate.cas_lr"):
            pass
        logits = training.network.predict(images[inside], batch_size=512, verbose=0)
        probabilities[inside] = classification.softmax(logits)
    return probabilities


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV table that may be without rows; see write_table."""
    if rows:
        write_table(path, rows)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(columns)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, np.floating) else value
