"""Detection of images that differ in kind from a classifier's training images: the outlier score that the classifier is
served with, how well that score separates, and images to test it with."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from scipy.stats import rankdata

from stages.serving.classifier.bundle import Serving
from stages.serving.classifier.outlier_scores import energy, neighbour_distance, unit_length

DIGITS = [str(digit) for digit in range(10)]


def area_under_roc(inliers: np.ndarray, outliers: np.ndarray) -> float:
    """Share of pairs in which the outlier has the higher score; ties count half (AUROC)."""
    ranks = rankdata(np.concatenate([inliers, outliers]))[len(inliers) :]
    return float((ranks.sum() - len(outliers) * (len(outliers) + 1) / 2) / (len(inliers) * len(outliers)))


def choose_outlier_score(
    val: tuple[np.ndarray, np.ndarray],
    noise: tuple[np.ndarray, np.ndarray],
    bank: np.ndarray,
    *,
    neighbours: int,
    accepted: float,
    temperature: float,
) -> Serving:
    """The outlier score that separates noise from validation images better, energy when both are equal, and the
    threshold below which a share `accepted` of the validation images lies.

    val, noise: features [n, d] and logits [n, classes]. bank: features of training images [m, d]; without rows the
    score is the energy. The images of the evaluation (digits, photographs, test images) have no influence on the
    choice.
    """
    by_energy = area_under_roc(energy(val[1]), energy(noise[1]))
    empty = np.zeros((0, bank.shape[1]), np.float32)
    serving = Serving(temperature, 0.0, neighbours, empty)
    if len(bank):
        by_distance = area_under_roc(*(neighbour_distance(part[0], bank, neighbours) for part in (val, noise)))
        if by_distance > by_energy:
            serving = serving._replace(bank=unit_length(bank).astype(np.float32))
    return serving._replace(threshold=float(np.quantile(serving.scores(*val), accepted)))


# ---------------------------------------------------------------- images of another kind, uint8 [count, *shape]


def noise_images(shape: Sequence[int], count: int, seed: int) -> np.ndarray:
    """Uniform noise from 0 to 255."""
    return np.random.default_rng([seed, 0]).integers(0, 256, (count, *shape), np.uint8)


def digit_images(shape: Sequence[int], count: int, seed: int) -> np.ndarray:
    """Handwritten digits from scikit-learn, enlarged; at most 1,797."""
    from sklearn.datasets import load_digits

    digits = np.random.default_rng([seed, 1]).permutation(load_digits().images)[:count]
    pixels = np.rint(digits * (255 / 16)).astype(np.uint8)
    large = [cv2.resize(image, tuple(shape[1::-1]), interpolation=cv2.INTER_LINEAR) for image in pixels]
    return np.repeat(np.stack(large)[..., None], shape[2], axis=3)


def photo_images(shape: Sequence[int], count: int, seed: int) -> np.ndarray:
    """Square patches of scikit-learn's two photographs, resized to `shape`, with sides from that of `shape` to half of
    the photograph's where this is larger."""
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


def out_of_distribution_images(
    shape: Sequence[int], count: int, classes: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
    """Images of kinds that the classifier was not trained on, uint8 [at most count, *shape]: `noise`, `photos`, and
    `digits` unless digits are its classes."""
    makers: dict[str, Callable[..., np.ndarray]] = {"noise": noise_images, "photos": photo_images}
    if sorted(classes) != DIGITS:
        makers["digits"] = digit_images
    return {name: make(shape, count, seed) for name, make in makers.items()}
