"""Metrics of class probabilities: functions of probabilities float64 [n, classes] and labels int [n].

Accuracy and negative log-likelihood, which the trainings use as well, are in stages/training/scores.py.
"""

import numpy as np

CALIBRATION_BINS = 15


def wilson_interval(share: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95% interval of a share observed in `count` trials (Wilson 1927)."""
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def macro_f1(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes of 2 TP / (2 TP + FP + FN); classes that neither occur nor are predicted count as 0."""
    matrix = confusion_matrix(probabilities, labels)
    hits, either = np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1)
    return float(np.mean(2 * hits / np.maximum(either, 1)))


def class_precision_and_recall(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 [classes] each: the share of correct predictions among those of a class, and among the images of a class;
    NaN for a class that is never predicted, or never occurs."""
    matrix = confusion_matrix(probabilities, labels)
    with np.errstate(invalid="ignore"):
        return np.diag(matrix) / matrix.sum(axis=0), np.diag(matrix) / matrix.sum(axis=1)


def top_k_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of images whose label is among the k most probable classes."""
    return float(np.mean(in_top_k(probabilities, labels, k)))


def in_top_k(probabilities: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """bool [n]: whether fewer than k classes are more probable than the label; ties go to the first class."""
    of_label = probabilities[np.arange(len(labels)), labels][:, None]
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    ahead = (probabilities > of_label) | ((probabilities == of_label) & before)
    return ahead.sum(axis=1) < k


def confusion_matrix(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int [classes, classes]: rows are labels, columns predictions."""
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the images of the squared distance of the probabilities from the truth, 0 to 2 (Brier 1950)."""
    return float(np.mean(squared_errors(probabilities, labels)))


def squared_errors(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The squared distance [n] of each image's probabilities from 1 for its label and 0 for the rest."""
    of_label = probabilities[np.arange(len(labels)), labels]
    return (probabilities**2).sum(axis=1) - 2 * of_label + 1


def calibration_bins(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per bin of confidence (15 of equal width over 0..1): mean confidence, accuracy, count; NaN in empty bins."""
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    index = bin_of(confidence)
    count = np.bincount(index, minlength=CALIBRATION_BINS)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(index, confidence, CALIBRATION_BINS) / count
        share = np.bincount(index, hits, CALIBRATION_BINS) / count
    return mean, share, count


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """The bin, 0 to 14, of each confidence, 0 to 1."""
    return np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by their counts (Naeini et al. 2015)."""
    mean, share, count = calibration_bins(probabilities, labels)
    full = count > 0
    return float(np.sum(count[full] * np.abs(mean[full] - share[full])) / count.sum())
