"""How unlike its training images an image is to a classifier: scores float64 [n], higher for what is less alike."""

import numpy as np
from scipy.special import logsumexp

ROWS_AT_A_TIME = 1000  # of a distance matrix


def energy(logits: np.ndarray) -> np.ndarray:
    """Free energy of logits [n, classes]: -log sum exp (Liu et al. 2020)."""
    return -logsumexp(logits.astype(np.float64), axis=1)


def neighbour_distance(features: np.ndarray, bank: np.ndarray, neighbours: int) -> np.ndarray:
    """Distance of features [n, d] to the k-th nearest of the training images' features, bank [m, d], all scaled to a
    length of 1 (Sun et al. 2022); k is limited by m."""
    k = min(neighbours, len(bank)) - 1
    bank = unit_length(bank)
    found = []
    for start in range(0, len(features), ROWS_AT_A_TIME):
        cosines = unit_length(features[start : start + ROWS_AT_A_TIME]) @ bank.T
        found.append(-np.partition(-cosines, k, axis=1)[:, k])
    return np.sqrt(np.maximum(2 - 2 * np.concatenate(found), 0))


def unit_length(features: np.ndarray) -> np.ndarray:
    """float64 [n, d], rows of length 1; those of zeros stay."""
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
