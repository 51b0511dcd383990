"""How close generated images are to real ones, as functions of their features in the reference space.

Features are float64 [n, d]. Figures of two reference spaces cannot be compared.
"""

import numpy as np
from scipy.spatial.distance import cdist

ROWS_AT_A_TIME = 1000  # of a distance matrix, which would be 800 MB for 10,000 images


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance of the Gaussians fitted to the features (Heusel et al. 2017); 0 for equal sets.

    It is biased upwards for small samples: compare sets of equal size, and with the distance of two real sets.
    """
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    covariance_a, covariance_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The trace of sqrt(A B) by the eigenvalues of the symmetric sqrt(A) B sqrt(A).
    values, vectors = np.linalg.eigh(covariance_a)
    root_a = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root_a @ covariance_b @ root_a), 0.0, None)).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.trace(covariance_a) + np.trace(covariance_b) - 2.0 * cross
    return float(max(distance, 0.0))


def kernel_distance(a: np.ndarray, b: np.ndarray, *, subsets: int, subset_size: int, seed: int) -> tuple[float, float]:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3, averaged over subsets of at most half
    the images (Binkowski et al. 2018, "KID"), and its standard error; around 0, and at times below, for sets of one
    distribution.

    The error is that of the images drawn, not of the subsets: the spread between subsets of m of n images, scaled by
    sqrt(m / (n - m)) (Politis & Romano 1994). It errs on the large side where the distance is near 0.
    """
    random = np.random.default_rng(seed)
    count = min(len(a), len(b))
    size = max(2, min(subset_size, count // 2))
    values = []
    for _ in range(subsets):
        x = a[random.choice(len(a), size, replace=False)]
        y = b[random.choice(len(b), size, replace=False)]
        within_x, within_y, across = (_polynomial_kernel(p, q) for p, q in ((x, x), (y, y), (x, y)))
        within = sum(k.sum() - np.trace(k) for k in (within_x, within_y)) / (size * (size - 1))
        values.append(within - 2.0 * across.mean())
    return float(np.mean(values)), float(np.std(values, ddof=1) * np.sqrt(size / max(1, count - size)))


def _polynomial_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def precision_and_recall(real: np.ndarray, fake: np.ndarray, neighbours: int = 3) -> tuple[float, float]:
    """Share of generated images inside the manifold of the real ones, and of real ones inside that of the generated
    ones; a manifold is the union of balls that reach to the k-th nearest neighbour (Kynkaanniemi et al. 2019)."""
    return _share_inside(fake, real, neighbours), _share_inside(real, fake, neighbours)


def _share_inside(points: np.ndarray, centres: np.ndarray, neighbours: int) -> float:
    k = min(neighbours, len(centres) - 1)
    # The nearest to a centre is the centre itself.
    radii = np.concatenate([np.partition(block, k, axis=1)[:, k] for block in _distances(centres, centres)])
    return float(np.mean(np.concatenate([(block <= radii).any(axis=1) for block in _distances(points, centres)])))


def nearest(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each point the index of the nearest centre and the distance to it."""
    blocks = [(block.argmin(axis=1), block.min(axis=1)) for block in _distances(points, centres)]
    return np.concatenate([index for index, _ in blocks]), np.concatenate([distance for _, distance in blocks])


def _distances(a: np.ndarray, b: np.ndarray):
    for start in range(0, len(a), ROWS_AT_A_TIME):
        yield cdist(a[start : start + ROWS_AT_A_TIME], b)
