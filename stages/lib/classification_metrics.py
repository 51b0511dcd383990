"""How good class probabilities are: functions of probabilities float64 [n, classes] and labels int [n]."""

import numpy as np

CALIBRATION_BINS = 15


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [n, classes] from logits, in float64 so that they add up to 1."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose most probable class is the label."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


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


def confusion_matrix(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int [classes, classes]: rows are labels, columns predictions."""
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log p(label), in nats."""
    return float(-np.mean(np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, None))))


def calibration_bins(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per bin of confidence (15 of equal width over 0..1): mean confidence, accuracy, count; NaN where it is empty."""
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    index = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    count = np.bincount(index, minlength=CALIBRATION_BINS)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(index, confidence, CALIBRATION_BINS) / count
        share = np.bincount(index, hits, CALIBRATION_BINS) / count
    return mean, share, count


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by their counts (Naeini et al. 2015)."""
    mean, share, count = calibration_bins(probabilities, labels)
    full = count > 0
    return float(np.sum(count[full] * np.abs(mean[full] - share[full])) / count.sum())
