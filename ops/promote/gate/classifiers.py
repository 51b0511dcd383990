"""Weighs a classifier against the champion by the probabilities that both give to the same images.

Functions of arrays. The intervals are those of a paired bootstrap: percentiles over resamples of the images (Efron
1979) on which both are measured, so that what is hard for both cancels.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.sparse import csc_array, csr_array, hstack

from ops.project.networks import CNN
from ops.promote.gate.decision import Decision, Judge, Line
from ops.promote.gate.policy import ClassifierPolicy
from stages.evaluation.classifier.intervals import (
    added_counts,
    added_gaps,
    calibration_error_of_sums,
    draw_some_weights,
    indicators,
    macro_f1_of_sums,
)
from stages.evaluation.classifier.metrics import probability_metrics
from stages.evaluation.classifier.scores import class_precision_and_recall
from stages.training.scores import log_losses

WEIGHED = ("accuracy", "macro_f1", "nll", "ece")
SHOWN_CLASSES = 20
ELEMENTS_AT_A_TIME = 2**24  # of a matrix of weights, float32: 64 MiB


def compare_classifiers(
    champion: np.ndarray | None,
    candidate: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    policy: ClassifierPolicy,
) -> Decision:
    """Weighs two classifiers by their probabilities, float64 [n, classes], for the same images with labels int [n]; one
    without a champion is held to the policy's floors alone.

    Rows need not add up to 1, where a model does not know all classes. Raises ValueError when the shapes do not agree,
    or probabilities are no numbers.
    """
    for probabilities in (candidate,) if champion is None else (candidate, champion):
        if probabilities.shape != (len(labels), len(classes)):
            raise ValueError(f"expected probabilities [{len(labels)}, {len(classes)}], got {list(probabilities.shape)}")
        if not np.isfinite(probabilities).all():
            raise ValueError("expected probabilities, and some are no numbers")
    judge = Judge(CNN, policy, champion is None)
    ours, recalls = weighed_figures(candidate, labels), class_recalls(candidate, labels)
    present = np.flatnonzero(~np.isnan(recalls))
    if champion is None:
        for name, value in ours.items():
            judge.metric(name, None, value)
        lowest = present[np.argsort(recalls[present], kind="stable")[:SHOWN_CLASSES]]
        for k in np.sort(lowest):
            judge.lines.append(Line(f"recall of {classes[k]}", None, float(recalls[k]), None, None, None, "", True))
        return judge.decision()
    theirs, their_recalls = weighed_figures(champion, labels), class_recalls(champion, labels)
    differences, recall_differences = paired_bootstrap(champion, candidate, labels, policy.resamples, policy.seed)
    ends = [policy.level, 1 - policy.level]
    for name, value in ours.items():
        low, high = (float(end) for end in np.quantile(differences[name], ends))
        judge.metric(name, theirs[name], value, (low, high))
    low_recalls, high_recalls = np.quantile(recall_differences, ends, axis=0)
    change = recalls - their_recalls
    # Of many classes, those that lose most; a class that fails is never left out.
    beyond = (change < -(policy.class_recall if policy.class_recall is not None else 2)) & (high_recalls < 0)
    shown = present[np.lexsort((change[present], ~beyond[present]))]
    for k in np.sort(shown[: max(SHOWN_CLASSES, int(beyond.sum()))]):
        interval = float(low_recalls[k]), float(high_recalls[k])
        judge.recall(classes[k], float(their_recalls[k]), float(recalls[k]), interval, policy.class_recall)
    return judge.decision()


def weighed_figures(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The figures that the gate compares, by their names in metrics.json."""
    measured = probability_metrics(probabilities, labels)
    return {name: measured[name] for name in WEIGHED}


def class_recalls(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of each class's images that are recognised, [classes]; NaN where there are none."""
    return class_precision_and_recall(probabilities, labels)[1]


def paired_bootstrap(
    champion: np.ndarray, candidate: np.ndarray, labels: np.ndarray, resamples: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Differences candidate - champion on resampled images: of figures [resamples], of recalls [resamples, classes].

    Every figure is a function of sums over the images, see stages/evaluation/classifier/intervals.py.
    """
    count, classes = champion.shape
    parts = [indicators(labels, classes)]
    for probabilities in (champion, candidate):
        losses = csr_array(log_losses(probabilities, labels)[:, None])
        parts += [*added_counts(probabilities, labels), added_gaps(probabilities, labels), losses]
    occurring, *sides = _split(_resampled_sums(hstack(parts, "csc", np.float32), resamples, seed), parts)
    figures, recalls = [], []
    for right, guessed, gaps, loss in (sides[:4], sides[4:]):
        figures.append(
            {
                "accuracy": right.sum(axis=1) / count,
                "macro_f1": macro_f1_of_sums(occurring, right, guessed),
                "nll": loss[:, 0] / count,
                "ece": calibration_error_of_sums(gaps, count),
            }
        )
        recalls.append(right / np.maximum(occurring, 1))
    return {name: figures[1][name] - figures[0][name] for name in WEIGHED}, recalls[1] - recalls[0]


def _split(sums: np.ndarray, parts: Sequence[csr_array]) -> list[np.ndarray]:
    """The columns of each part."""
    return np.split(sums, np.cumsum([part.shape[1] for part in parts])[:-1], axis=1)


def _resampled_sums(added: csc_array, resamples: int, seed: int) -> np.ndarray:
    """Sums [resamples, m] over resampled images, when an image adds a row of `added` float32 [n, m]. In blocks, so that
    memory stays bounded for many images or classes."""
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
    """How often each of `count` images is drawn in each resample of a part, float32 [resamples, count]. Each part has
    draws of its own, so that a block of columns can draw it again, and all blocks see the same."""
    return draw_some_weights(count, resamples, np.random.default_rng([seed, part]))
