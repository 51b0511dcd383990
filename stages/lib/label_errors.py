"""Labels that are probably wrong, from probabilities that the images themselves had no part in: confident learning
(Northcutt, Jiang & Chuang 2021)."""

import numpy as np


def suspected_labels(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the images whose label is suspected, the classes suggested for them, and scores, worst first.

    probabilities: float64 [n, classes], by a network that was not trained on these images; labels: int [n].

    An image counts for every class whose probability is at least the mean probability of that class over the images
    that carry its label; it is suspected when the most probable of those is not its label: the off-diagonal of the
    confident joint. The score, 0 to 1, says by how much more probable the suggested class is:
    (1 + p(suggested) - p(given)) / 2.
    """
    classes = probabilities.shape[1]
    count = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels]
    # A class that no image has cannot be suggested.
    thresholds = np.where(count > 0, np.bincount(labels, own, classes) / np.maximum(count, 1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    score = (1 + probabilities[np.arange(len(labels)), suggested] - own) / 2
    suspected = np.flatnonzero((confident.max(axis=1) >= 0) & (suggested != labels))
    order = suspected[np.argsort(-score[suspected], kind="stable")]
    return order, suggested[order], score[order]
