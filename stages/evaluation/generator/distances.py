"""How close generated images are to real ones, as functions of their features in the reference space.

Features are float64 [n, d]. Distances in different reference spaces are not comparable.
"""

from collections.abc import Iterator

import numpy as np

from stages.generator.distances import frechet_distance

ROWS_AT_A_TIME = 1000  # of a distance matrix, which would be 800 MB for 10,000 images


def frechet_at_infinity(a: np.ndarray, b: np.ndarray, *, sizes: int, draws: int, seed: int) -> float:
    """The Frechet distance extrapolated to infinitely many images: its bias is proportional to 1 / n, so that a line
    through the distances of smaller samples has none at 1 / n = 0 (Chong & Forsyth 2020).

    Both sets are subsampled without replacement to `sizes` sizes from half of the images to all, `draws` times each.
    Unbiased to first order: around 0, and sometimes below, for sets of one distribution. Unless there are several times
    more images than features it is a rough estimate, whose error is several times that of the distance itself.
    """
    random, count = np.random.default_rng(seed), min(len(a), len(b))
    counts = np.unique(np.rint(1 / np.linspace(1 / count, 2 / count, sizes)).astype(int))
    distances = [
        np.mean([frechet_distance(*(_subsample(images, n, random) for images in (a, b))) for _ in range(draws)])
        for n in counts
    ]
    return float(np.polyfit(1 / counts, distances, 1)[1])


def _subsample(features: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    return features[random.permutation(len(features))[:count]]


def class_frechet_distances(
    a: np.ndarray, labels_a: np.ndarray, b: np.ndarray, labels_b: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """The Frechet distance of the first counts[k] images of class k in both sets, [classes]; NaN where counts[k] is
    below 2, because one image has no covariance."""
    distances = np.full(len(counts), np.nan)
    for k, count in enumerate(counts):
        if count >= 2:
            distances[k] = frechet_distance(a[labels_a == k][:count], b[labels_b == k][:count])
    return distances


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of all images, with the kernel of KID (Binkowski et al. 2018); around
    0, and sometimes below, for sets of one distribution."""
    within = sum((kernel_sums(x, x) - kernel_diagonal(x)).sum() / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(within - 2 * kernel_sums(a, b).sum() / (len(a) * len(b)))


def kernel_distance_over_subsets(
    a: np.ndarray, b: np.ndarray, *, subsets: int, subset_size: int, seed: int
) -> tuple[float, float]:
    """The same distance of subsets of at most half the images: the mean over the subsets ("KID", Binkowski et al.
    2018), and its standard error.

    The error is that of the images drawn, not of the subsets: the spread between subsets of m of n images, scaled by
    sqrt(m / (n - m)) (Politis & Romano 1994). It is too large where the distance is near 0.
    """
    random = np.random.default_rng(seed)
    count = min(len(a), len(b))
    size = max(2, min(subset_size, count // 2))
    values = []
    for _ in range(subsets):
        x = a[random.choice(len(a), size, replace=False)]
        y = b[random.choice(len(b), size, replace=False)]
        within_x, within_y, across = (kernel_matrix(p, q) for p, q in ((x, x), (y, y), (x, y)))
        within = sum(k.sum() - np.trace(k) for k in (within_x, within_y)) / (size * (size - 1))
        values.append(within - 2.0 * across.mean())
    return float(np.mean(values)), float(np.std(values, ddof=1) * np.sqrt(size / max(1, count - size)))


def kernel_matrix(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """KID's kernel (x.y / d + 1)^3 of each pair of features [n, d] and [m, d], [n, m], in their precision."""
    base = x @ y.T / x.shape[1] + 1
    return base * base * base  # 20 times as fast as numpy's power


def kernel_diagonal(x: np.ndarray) -> np.ndarray:
    """The kernel of each image with itself, float64 [n]."""
    return (np.square(x).sum(axis=1, dtype=np.float64) / x.shape[1] + 1) ** 3


def kernel_sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The kernel of each image in x [n, d] with those in y [m, d], summed over y, [n]."""
    parts = range(0, len(x), ROWS_AT_A_TIME)
    return np.concatenate([kernel_matrix(x[start : start + ROWS_AT_A_TIME], y).sum(axis=1) for start in parts])


def precision_and_recall(real: np.ndarray, fake: np.ndarray, neighbours: int = 3) -> tuple[float, float]:
    """Share of generated images inside the manifold of the real ones, and of real ones inside that of the generated
    ones; a manifold is the union of balls that reach to the k-th nearest neighbour (Kynkaanniemi et al. 2019)."""
    precision, recall = inside_manifold(fake, real, neighbours), inside_manifold(real, fake, neighbours)
    return float(precision.mean()), float(recall.mean())


def inside_manifold(points: np.ndarray, centres: np.ndarray, neighbours: int = 3) -> np.ndarray:
    """Which points lie in a ball around any centre that reaches to the centre's k-th nearest neighbour, bool [n]."""
    radii = _squared_radii(centres, neighbours)
    return np.concatenate([(block <= radii).any(axis=1) for block in _squared_distances(points, centres)])


def density_and_coverage(real: np.ndarray, fake: np.ndarray, neighbours: int = 5) -> tuple[float, float]:
    """The mean number of real images' balls in which a generated image lies, divided by k, where a ball reaches to the
    k-th nearest real image; and the share of the balls in which a generated image lies (Naeem et al. 2020).

    Unlike precision and recall they depend neither on single outliers nor on the manifold of the generated images. Sets
    of one distribution have an expected density of 1 and the coverage that `expected_coverage` returns.
    """
    radii, inside, nearest_fake = _squared_radii(real, neighbours), 0, np.full(len(real), np.inf)
    for block in _squared_distances(fake, real):
        inside += int((block <= radii).sum())
        nearest_fake = np.minimum(nearest_fake, block.min(axis=0))
    return inside / (min(neighbours, len(real) - 1) * len(fake)), float(np.mean(nearest_fake <= radii))


def expected_coverage(real: int, fake: int, neighbours: int = 5) -> float:
    """The expected coverage of `real` images by `fake` ones of the same distribution, for any distribution (Naeem et
    al. 2020): the probability that the k nearest of the other images, real and generated, are not all real."""
    k = np.arange(min(neighbours, real - 1))
    return float(1 - np.prod((real - 1 - k) / (real - 1 + fake - k)))


def _squared_radii(centres: np.ndarray, neighbours: int) -> np.ndarray:
    """The squared distance [n] from each centre to its k-th nearest other one; k is at most their number."""
    k = min(neighbours, len(centres) - 1)
    # The nearest to a centre is the centre itself.
    return np.concatenate([np.partition(block, k, axis=1)[:, k] for block in _squared_distances(centres, centres)])


def _squared_distances(a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    """Yields |x - y|^2 as |x|^2 - 2 x.y + |y|^2, [rows, m]: 8 times as fast as differences, and exact enough to compare
    images that differ."""
    squares_a, squares_b = (np.einsum("nd,nd->n", x, x) for x in (a, b))
    for start in range(0, len(a), ROWS_AT_A_TIME):
        part = slice(start, start + ROWS_AT_A_TIME)
        block = a[part] @ b.T
        block *= -2
        block += squares_a[part, None]
        block += squares_b
        yield block
