"""Compares a classifier with the champion by their predicted probabilities for the same images.

Functions of arrays. The intervals are from a paired bootstrap: percentiles over resamples of the images (Efron 1979) on
which both are measured, so that the difficulty of the images cancels.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.sparse import csc_array, csr_array, hstack

from ops.project.networks import CNN
from ops.promote.gate.decision import Decision, Judge, Line
from ops.promote.gate.policy import ClassifierPolicy
from stages.evaluation.classifier.intervals import (
    calibration_error_from_sums,
    count_contributions,
    draw_weight_block,
    gap_contributions,
    indicators,
    macro_f1_from_sums,
)
from stages.evaluation.classifier.metrics import probability_metrics
from stages.evaluation.classifier.scores import class_precision_and_recall
from stages.training.scores import log_losses

GATE_METRICS = ("accuracy", "macro_f1", "nll", "ece")
SHOWN_CLASSES = 20
ELEMENTS_AT_A_TIME = 2**24  # of a matrix of weights, float32: 64 MiB


def compare_classifiers(
    champion: np.ndarray | None,
    candidate: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    policy: ClassifierPolicy,
) -> Decision:
    """Compares two classifiers by their probabilities, float64 [n, classes], for the same images with labels int [n].
    Without a champion, only the policy's floors apply.

    Rows need not add up to 1, when a model does not have all classes. Raises ValueError when the shapes do not agree,
    or probabilities are not finite.
    """
    for probabilities in (candidate,) if champion is None else (candidate, champion):
        if probabilities.shape != (len(labels), len(classes)):
            raise ValueError(f"expected probabilities [{len(labels)}, {len(classes)}], got {list(probabilities.shape)}")
        if not np.isfinite(probabilities).all():
            raise ValueError("expected probabilities, but some are not finite numbers")
    judge = Judge(CNN, policy, champion is None)
    metrics, recalls = gate_metrics(candidate, labels), class_recalls(candidate, labels)
    present = np.flatnonzero(~np.isnan(recalls))
    if champion is None:
        for name, value in metrics.items():
            judge.metric(name, None, value)
        lowest = present[np.argsort(recalls[present], kind="stable")[:SHOWN_CLASSES]]
        for k in np.sort(lowest):
            judge.lines.append(Line(f"recall of {classes[k]}", None, float(recalls[k]), None, None, None, "", True))
        return judge.decision()
    champion_metrics, champion_recalls = gate_metrics(champion, labels), class_recalls(champion, labels)
    differences, recall_differences = paired_bootstrap(champion, candidate, labels, policy.resamples, policy.seed)
    ends = [policy.level, 1 - policy.level]
    for name, value in metrics.items():
        low, high = (float(end) for end in np.quantile(differences[name], ends))
        judge.metric(name, champion_metrics[name], value, (low, high))
    low_recalls, high_recalls = np.quantile(recall_differences, ends, axis=0)
    change = recalls - champion_recalls
    # With many classes, only the largest losses are shown, and every class that fails.
    failed = (change < -(policy.class_recall if policy.class_recall is not None else 2)) & (high_recalls < 0)
    shown = present[np.lexsort((change[present], ~failed[present]))]
    for k in np.sort(shown[: max(SHOWN_CLASSES, int(failed.sum()))]):
        interval = float(low_recalls[k]), float(high_recalls[k])
        judge.recall(classes[k], float(champion_recalls[k]), float(recalls[k]), interval, policy.class_recall)
    return judge.decision()


def gate_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics that the gate compares, by their names in metrics.json."""
    measured = probability_metrics(probabilities, labels)
    return {name: measured[name] for name in GATE_METRICS}


def class_recalls(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The recall of each class, [classes]; NaN for a class without images."""
    return class_precision_and_recall(probabilities, labels)[1]


def paired_bootstrap(
    champion: np.ndarray, candidate: np.ndarray, labels: np.ndarray, resamples: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Differences candidate - champion on resampled images: of metrics [resamples], of recalls [resamples, classes].

    Every metric is a function of sums over the images, see stages/evaluation/classifier/intervals.py.
    """
    count, classes = champion.shape
    parts = [indicators(labels, classes)]
    for probabilities in (champion, candidate):
        losses = csr_array(log_losses(probabilities, labels)[:, None])
        parts += [*count_contributions(probabilities, labels), gap_contributions(probabilities, labels), losses]
    occurring, *sides = _split(_resampled_sums(hstack(parts, "csc", np.float32), resamples, seed), parts)
    metrics, recalls = [], []
    for correct, predicted, gaps, loss in (sides[:4], sides[4:]):
        metrics.append(
            {
                "accuracy": correct.sum(axis=1) / count,
                "macro_f1": macro_f1_from_sums(occurring, correct, predicted),
                "nll": loss[:, 0] / count,
                "ece": calibration_error_from_sums(gaps, count),
            }
        )
        recalls.append(correct / np.maximum(occurring, 1))
    return {name: metrics[1][name] - metrics[0][name] for name in GATE_METRICS}, recalls[1] - recalls[0]


def _split(sums: np.ndarray, parts: Sequence[csr_array]) -> list[np.ndarray]:
    """Splits the columns of `sums` by part."""
    return np.split(sums, np.cumsum([part.shape[1] for part in parts])[:-1], axis=1)


def _resampled_sums(added: csc_array, resamples: int, seed: int) -> np.ndarray:
    """Sums [resamples, m] over resampled images, where each image adds a row of `added` float32 [n, m]. Computed in
    blocks, so that memory stays bounded for many images or classes."""
    count, width = added.shape
    sums = np.empty((resamples, width))
    rows_at_a_time = max(1, ELEMENTS_AT_A_TIME // count)
    wide = max(64, ELEMENTS_AT_A_TIME // count)
    for left in range(0, width, wide):
        block = added[:, left : left + wide].toarray(order="C")
        for part, first in enumerate(range(0, resamples, rows_at_a_time)):
            weights = drawn_weights(count, min(rows_at_a_time, resamples - first), seed, part)
            sums[first : first + len(weights), left : left + wide] = weights @ block
    return sums


@lru_cache(maxsize=2)
def drawn_weights(count: int, resamples: int, seed: int, part: int) -> np.ndarray:
    """The number of times that each of `count` images is drawn in each resample of a part, float32 [resamples, count].
    Each part has its own random generator, so that every block of columns can repeat the same draws."""
    return draw_weight_block(count, resamples, np.random.default_rng([seed, part]))
