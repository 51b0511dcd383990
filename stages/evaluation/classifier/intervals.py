"""How far a classifier's figures could be off because there are only so many test images: percentile bootstrap
intervals (Efron 1979).

Most figures are functions of sums over the images, so that the sums of all resamples are one product: how often each
image was drawn, times what each image adds. The others are functions of sums over images in the order of a score.
An interval shrinks to nothing where a figure is the best that there is on all test images: no resample is worse.
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
    """Figures of resampled test images."""

    figures: dict[str, np.ndarray]  # [resamples] each, by the name in metrics.json
    precision: np.ndarray  # [resamples, classes], NaN where a resample predicts none of the class
    recall: np.ndarray  # [resamples, classes], NaN where a resample holds none of the class


def bootstrap(
    probabilities: np.ndarray, calibrated: np.ndarray, labels: np.ndarray, k: int, resamples: int, seed: int
) -> Resampled:
    """Accuracy, macro F1, top-k accuracy, and before and after calibration NLL, Brier score and calibration error, on
    `resamples` resamples of the n images. probabilities, calibrated: float64 [n, classes]; labels: int [n]."""
    count, classes = probabilities.shape
    parts = [indicators(labels, classes), *added_counts(probabilities, labels)]
    parts.append(csr_array(scores.in_top_k(probabilities, labels, k)[:, None].astype(float)))
    for given in (probabilities, calibrated):
        of_images = np.stack([log_losses(given, labels), scores.squared_errors(given, labels)], axis=1)
        parts += [csr_array(of_images), added_gaps(given, labels)]
    sums = np.concatenate(list(_sums(hstack(parts, format="csr"), resamples, seed)))
    edges = np.cumsum([part.shape[1] for part in parts])[:-1]
    occurring, right, guessed, top, losses, gaps, calibrated_losses, calibrated_gaps = np.split(sums, edges, axis=1)
    figures = {
        "accuracy": right.sum(axis=1) / count,
        "macro_f1": macro_f1_of_sums(occurring, right, guessed),
        f"top{k}_accuracy": top[:, 0] / count,
        "nll": losses[:, 0] / count,
        "brier": losses[:, 1] / count,
        "ece": calibration_error_of_sums(gaps, count),
        "nll_calibrated": calibrated_losses[:, 0] / count,
        "brier_calibrated": calibrated_losses[:, 1] / count,
        "ece_calibrated": calibration_error_of_sums(calibrated_gaps, count),
    }
    with np.errstate(invalid="ignore"):
        return Resampled(figures, right / guessed, right / occurring)


def added_counts(probabilities: np.ndarray, labels: np.ndarray) -> tuple[csr_array, csr_array]:
    """What each of n images adds to the right predictions of each class, and to all of them, [n, classes] each."""
    classes, predicted = probabilities.shape[1], probabilities.argmax(axis=1)
    return indicators(labels, classes, predicted == labels), indicators(predicted, classes)


def added_gaps(probabilities: np.ndarray, labels: np.ndarray) -> csr_array:
    """What each image adds to the gap between confidence and hits in the bin of its confidence, [n, 15]."""
    confidence = probabilities.max(axis=1)
    gap = confidence - (probabilities.argmax(axis=1) == labels)
    return indicators(scores.bin_of(confidence), scores.CALIBRATION_BINS, gap)


def indicators(columns: np.ndarray, width: int, values: np.ndarray | None = None) -> csr_array:
    """[n, width] with values[i], or 1, in column columns[i] of row i."""
    added = np.ones(len(columns)) if values is None else values.astype(float)
    return csr_array((added, columns, np.arange(len(columns) + 1)), shape=(len(columns), width))


def macro_f1_of_sums(occurring: np.ndarray, right: np.ndarray, guessed: np.ndarray) -> np.ndarray:
    """Macro F1 [resamples] from the numbers [resamples, classes] of images, of right predictions and of all predictions
    of each class."""
    return np.mean(2 * right / np.maximum(occurring + guessed, 1), axis=1)


def calibration_error_of_sums(gaps: np.ndarray, count: int) -> np.ndarray:
    """Calibration error [resamples] of `count` images from the gaps [resamples, 15] of `added_gaps`."""
    return np.abs(gaps).sum(axis=1) / count


def bootstrap_mean(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The mean [resamples] of one value per image, [n]."""
    weighted = [weights @ values for weights in draw_weights(len(values), resamples, seed)]
    return np.concatenate(weighted) / len(values)


def bootstrap_risk_coverage(confidence: np.ndarray, hits: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The area under the risk-coverage curve [resamples] of confidence and hits [n]; see selective.py.

    An image that is drawn twice ties with itself, and equal confidences are taken as the mean over their orders: over
    the s answers from the (a + 1)-th on of a group with a share m of mistakes, after b mistakes, the risks
    (b + m (k - a)) / k add up to (b - m a) (H(a + s) - H(a)) + m s, with the harmonic numbers H.
    """
    count = len(hits)
    order = np.argsort(-confidence, kind="stable")
    wrong = ~hits[order].astype(bool)
    starts = np.flatnonzero(np.diff(-confidence[order], prepend=-np.inf))  # of the groups of equal confidence
    some = np.add.reduceat(wrong, starts, dtype=int) > 0
    starts = starts[some | np.concatenate([[True], some[:-1]])]  # neighbours without mistakes are as good as one group
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, count + 1))])
    areas = []
    for weights in draw_weights(count, resamples, seed):  # as random in the order of confidence as in any
        size = np.add.reduceat(weights, starts, axis=1).astype(np.int64)
        mistakes = np.add.reduceat(weights * wrong, starts, axis=1).astype(np.float64)
        share = mistakes / np.maximum(size, 1)
        end = np.cumsum(size, axis=1)
        before, start = np.cumsum(mistakes, axis=1) - mistakes, end - size
        areas.append(((before - share * start) * (harmonic[end] - harmonic[start]) + share * size).sum(axis=1) / count)
    return np.concatenate(areas)


def bootstrap_area_under_roc(known: np.ndarray, strange: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The AUROC [resamples] of scores of known images [n] and strange ones [m], both of which are drawn anew; see
    out_of_distribution.py."""
    ascending = np.sort(known)  # how often each is drawn is as random in this order as in any other
    below, not_above = (np.searchsorted(ascending, strange, side) for side in ("left", "right"))
    rows_at_a_time, areas = max(1, ELEMENTS_AT_A_TIME // max(len(known), len(strange))), []
    draws = (_rows(len(scores), resamples, seed + k) for k, scores in enumerate((known, strange)))
    pairs = zip(*draws, strict=True)
    while part := list(islice(pairs, rows_at_a_time)):
        weights, strange_weights = (np.stack(kind) for kind in zip(*part, strict=True))
        up_to = np.concatenate([np.zeros((len(part), 1)), np.cumsum(weights, axis=1, dtype=np.float64)], axis=1)
        won = (up_to[:, below] + up_to[:, not_above]) / 2 * strange_weights
        areas.append(won.sum(axis=1) / (len(known) * len(strange)))
    return np.concatenate(areas)


def _rows(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    for weights in draw_weights(count, resamples, seed):
        yield from weights


def interval(values: np.ndarray) -> tuple[float, float]:
    """The ends of the middle 95% of values [resamples], of those that are numbers."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def draw_weights(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of `count` images is drawn in each resample: multinomial, float32 [some, count], in parts that
    bound the memory, whose rows add up to `resamples`."""
    rows_at_a_time = max(1, ELEMENTS_AT_A_TIME // count)
    random = np.random.default_rng(seed)
    for first in range(0, resamples, rows_at_a_time):
        yield draw_some_weights(count, min(rows_at_a_time, resamples - first), random)


def draw_some_weights(count: int, resamples: int, random: np.random.Generator) -> np.ndarray:
    """The same of these resamples at once, float32 [resamples, count]."""
    weights = np.empty((resamples, count), np.float32)
    for row in weights:
        row[:] = np.bincount(random.integers(0, count, count), minlength=count)
    return weights


def _sums(added: csr_array, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Sums [some, m] over the images of each resample, when an image adds a row of `added` [n, m]."""
    transposed = added.T.tocsr()
    for weights in draw_weights(added.shape[0], resamples, seed):
        yield (transposed @ weights.T.astype(np.float64)).T
