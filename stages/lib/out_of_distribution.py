"""Whether an image is of the kind that a classifier knows: scores of how unlike its training images an image is, and
images to try them on.

Scores are float64 [n], higher for what is less alike.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.special import logsumexp
from scipy.stats import rankdata

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


def area_under_roc(known: np.ndarray, strange: np.ndarray) -> float:
    """Share of pairs in which the strange image has the higher score; equal ones count half (AUROC)."""
    ranks = rankdata(np.concatenate([known, strange]))[len(known) :]
    return float((ranks.sum() - len(strange) * (len(strange) + 1) / 2) / (len(known) * len(strange)))


# ---------------------------------------------------------------- images of another kind, uint8 [count, *shape]


def noise_images(shape: Sequence[int], count: int, seed: int) -> np.ndarray:
    """Every value drawn evenly from 0 to 255."""
    return np.random.default_rng([seed, 0]).integers(0, 256, (count, *shape), np.uint8)


def digit_images(shape: Sequence[int], count: int, seed: int) -> np.ndarray:
    """Handwritten digits, those that scikit-learn brings along, enlarged; at most 1,797."""
    from sklearn.datasets import load_digits

    digits = np.random.default_rng([seed, 1]).permutation(load_digits().images)[:count]
    pixels = np.rint(digits * (255 / 16)).astype(np.uint8)
    large = [cv2.resize(image, tuple(shape[1::-1]), interpolation=cv2.INTER_LINEAR) for image in pixels]
    return np.repeat(np.stack(large)[..., None], shape[2], axis=3)


def photo_images(shape: Sequence[int], count: int, seed: int) -> np.ndarray:
    """Square patches of the two photographs that scikit-learn brings along, from the size of `shape` to half of the
    photograph, or larger where that is too small."""
    from sklearn.datasets import load_sample_images

    photos, random = load_sample_images().images, np.random.default_rng([seed, 2])
    patches = np.empty((count, *shape), np.uint8)
    for patch in patches:
        photo = photos[random.integers(len(photos))]
        largest = min(photo.shape[:2])
        smallest = min(shape[0], largest)
        side = random.integers(smallest, max(smallest, largest // 2), endpoint=True)
        top, left = (random.integers(0, length - side, endpoint=True) for length in photo.shape[:2])
        cut = photo[top : top + side, left : left + side]
        method = cv2.INTER_AREA if side >= shape[0] else cv2.INTER_LINEAR
        resized = cv2.resize(cut, tuple(shape[1::-1]), interpolation=method)
        patch[:] = resized if shape[2] == 3 else cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY)[..., None]
    return patches
