"""The uncertainty of a classifier's metrics that comes from the limited number of test images: percentile bootstrap
intervals (Efron 1979).

Most metrics are functions of sums over the images, so that one matrix product gives the sums of all resamples: how
often each image was drawn, times its contribution. The others are functions of sums over images in the order of a
score. An interval has no width where a metric is perfect on all test images: no resample is worse.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array, hstack

from stages.evaluation.classifier import scores
from stages.training.scores import log_losses

LEVEL = 0.95
ELEMENTS_AT_A_TIME = 2**24  # of a matrix of weights, float32: 64 MiB


class Resampled(NamedTuple):
    """Metrics of resampled test images."""

    metrics: dict[str, np.ndarray]  # [resamples] each, by the name in metrics.json
    precision: np.ndarray  # [resamples, classes], NaN where a resample has no prediction of the class
    recall: np.ndarray  # [resamples, classes], NaN where a resample has no image of the class


def bootstrap(
    probabilities: np.ndarray, calibrated: np.ndarray, labels: np.ndarray, k: int, resamples: int, seed: int
) -> Resampled:
    """Accuracy, macro F1, top-k accuracy, and before and after calibration NLL, Brier score and calibration error, on
    `resamples` resamples of the n images. probabilities, calibrated: float64 [n, classes]; labels: int [n]."""
    count, classes = probabilities.shape
    parts = [indicators(labels, classes), *count_contributions(probabilities, labels)]
    parts.append(csr_array(scores.in_top_k(probabilities, labels, k)[:, None].astype(float)))
    for given in (probabilities, calibrated):
        errors = np.stack([log_losses(given, labels), scores.squared_errors(given, labels)], axis=1)
        parts += [csr_array(errors), gap_contributions(given, labels)]
    sums = np.concatenate(list(_sums(hstack(parts, format="csr"), resamples, seed)))
    edges = np.cumsum([part.shape[1] for part in parts])[:-1]
    labelled, correct, predicted, top, losses, gaps, calibrated_losses, calibrated_gaps = np.split(sums, edges, axis=1)
    metrics = {
        "accuracy": correct.sum(axis=1) / count,
        "macro_f1": macro_f1_from_sums(labelled, correct, predicted),
        f"top{k}_accuracy": top[:, 0] / count,
        "nll": losses[:, 0] / count,
        "brier": losses[:, 1] / count,
        "ece": calibration_error_from_sums(gaps, count),
        "nll_calibrated": calibrated_losses[:, 0] / count,
        "brier_calibrated": calibrated_losses[:, 1] / count,
        "ece_calibrated": calibration_error_from_sums(calibrated_gaps, count),
    }
    with np.errstate(invalid="ignore"):
        return Resampled(metrics, correct / predicted, correct / labelled)


def count_contributions(probabilities: np.ndarray, labels: np.ndarray) -> tuple[csr_array, csr_array]:
    """Contribution of each of n images to the correct and to all predictions of each class, [n, classes] each."""
    classes, predicted = probabilities.shape[1], probabilities.argmax(axis=1)
    return indicators(labels, classes, predicted == labels), indicators(predicted, classes)


def gap_contributions(probabilities: np.ndarray, labels: np.ndarray) -> csr_array:
    """Contribution of each image to the gap between confidence and hits in the bin of its confidence, [n, 15]."""
    confidence = probabilities.max(axis=1)
    gap = confidence - (probabilities.argmax(axis=1) == labels)
    return indicators(scores.bin_of(confidence), scores.CALIBRATION_BINS, gap)


def indicators(columns: np.ndarray, width: int, values: np.ndarray | None = None) -> csr_array:
    """[n, width] with values[i], or 1, in column columns[i] of row i."""
    entries = np.ones(len(columns)) if values is None else values.astype(float)
    return csr_array((entries, columns, np.arange(len(columns) + 1)), shape=(len(columns), width))


def macro_f1_from_sums(labelled: np.ndarray, correct: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Macro F1 [resamples] from the numbers [resamples, classes] of images, of correct and of all predictions of each
    class."""
    return np.mean(2 * correct / np.maximum(labelled + predicted, 1), axis=1)


def calibration_error_from_sums(gaps: np.ndarray, count: int) -> np.ndarray:
    """Calibration error [resamples] of `count` images from the sums [resamples, 15] of `gap_contributions`."""
    return np.abs(gaps).sum(axis=1) / count


def bootstrap_mean(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The mean [resamples] of one value per image, [n]."""
    weighted = [weights @ values for weights in draw_weights(len(values), resamples, seed)]
    return np.concatenate(weighted) / len(values)


def bootstrap_risk_coverage(confidence: np.ndarray, hits: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The area under the risk-coverage curve [resamples] of confidence and hits [n]; see selective.py.

    An image that is drawn twice ties with itself, and the risk of tied images is the mean over their orders. For a
    group of s tied images with a share m of mistakes, after a images with b mistakes, the risks (b + m (k - a)) / k of
    the answers k = a + 1 to a + s add up to (b - m a) (H(a + s) - H(a)) + m s, with the harmonic numbers H.
    """
    count = len(hits)
    order = np.argsort(-confidence, kind="stable")
    wrong = ~hits[order].astype(bool)
    starts = np.flatnonzero(np.diff(-confidence[order], prepend=-np.inf))  # of the groups of equal confidence
    has_mistakes = np.add.reduceat(wrong, starts, dtype=int) > 0
    # Adjacent groups without mistakes act as one.
    starts = starts[has_mistakes | np.concatenate([[True], has_mistakes[:-1]])]
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, count + 1))])
    areas = []
    for weights in draw_weights(count, resamples, seed):  # the order of the images does not matter
        size = np.add.reduceat(weights, starts, axis=1).astype(np.int64)
        mistakes = np.add.reduceat(weights * wrong, starts, axis=1).astype(np.float64)
        share = mistakes / np.maximum(size, 1)
        end = np.cumsum(size, axis=1)
        before, start = np.cumsum(mistakes, axis=1) - mistakes, end - size
        areas.append(((before - share * start) * (harmonic[end] - harmonic[start]) + share * size).sum(axis=1) / count)
    return np.concatenate(areas)


def bootstrap_area_under_roc(inliers: np.ndarray, outliers: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The AUROC [resamples] of scores of inliers [n] and outliers [m], where both are resampled; see outliers.py."""
    ascending = np.sort(inliers)  # the order of the images does not matter
    below, not_above = (np.searchsorted(ascending, outliers, side) for side in ("left", "right"))
    rows_at_a_time, areas = max(1, ELEMENTS_AT_A_TIME // max(len(inliers), len(outliers))), []
    draws = (_rows(len(scores), resamples, seed + k) for k, scores in enumerate((inliers, outliers)))
    pairs = zip(*draws, strict=True)
    while part := list(islice(pairs, rows_at_a_time)):
        weights, outlier_weights = (np.stack(kind) for kind in zip(*part, strict=True))
        up_to = np.concatenate([np.zeros((len(part), 1)), np.cumsum(weights, axis=1, dtype=np.float64)], axis=1)
        won = (up_to[:, below] + up_to[:, not_above]) / 2 * outlier_weights
        areas.append(won.sum(axis=1) / (len(inliers) * len(outliers)))
    return np.concatenate(areas)


def _rows(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    for weights in draw_weights(count, resamples, seed):
        yield from weights


def interval(values: np.ndarray) -> tuple[float, float]:
    """The bounds of the central 95% of values [resamples] without NaN; NaN when none remain."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def draw_weights(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each of `count` images is drawn in each resample: multinomial, float32 [rows, count], in blocks
    that bound the memory, with `resamples` rows in total."""
    rows_at_a_time = max(1, ELEMENTS_AT_A_TIME // count)
    random = np.random.default_rng(seed)
    for first in range(0, resamples, rows_at_a_time):
        yield draw_weight_block(count, min(rows_at_a_time, resamples - first), random)


def draw_weight_block(count: int, resamples: int, random: np.random.Generator) -> np.ndarray:
    """One such block, float32 [resamples, count]."""
    weights = np.empty((resamples, count), np.float32)
    for row in weights:
        row[:] = np.bincount(random.integers(0, count, count), minlength=count)
    return weights


def _sums(contributions: csr_array, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields sums [rows, m] over the images of each resample, to which each adds a row of `contributions` [n, m]."""
    transposed = contributions.T.tocsr()
    for weights in draw_weights(contributions.shape[0], resamples, seed):
        yield (transposed @ weights.T.astype(np.float64)).T
