"""Outlier scores of images, float64 [n]: the higher, the less an image resembles a classifier's training images."""

import numpy as np
from scipy.special import logsumexp

ROWS_AT_A_TIME = 1000  # of a distance matrix


def energy(logits: np.ndarray) -> np.ndarray:
    """Free energy of logits [n, classes]: -log sum exp (Liu et al. 2020)."""
    return -logsumexp(logits.astype(np.float64), axis=1)


def neighbour_distance(features: np.ndarray, bank: np.ndarray, neighbours: int) -> np.ndarray:
    """Distance of features [n, d] to the k-th nearest of the training images' features, bank [m, d], all scaled to unit
    length (Sun et al. 2022); k is at most m."""
    k = min(neighbours, len(bank)) - 1
    bank = unit_length(bank)
    kth_cosines = []
    for start in range(0, len(features), ROWS_AT_A_TIME):
        cosines = unit_length(features[start : start + ROWS_AT_A_TIME]) @ bank.T
        kth_cosines.append(-np.partition(-cosines, k, axis=1)[:, k])
    return np.sqrt(np.maximum(2 - 2 * np.concatenate(kth_cosines), 0))


def unit_length(features: np.ndarray) -> np.ndarray:
    """float64 [n, d], rows of length 1; rows of zeros stay zero."""
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
