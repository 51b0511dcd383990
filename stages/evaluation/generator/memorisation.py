"""Whether a generator copies its training images: how near to one of them its images are, beside how near test images
are, which nobody can have copied."""

import numpy as np

PIECE = 4096  # images compared at a time: 1000 of them against these take 33 MB in float64
POINTS = 1000


class NearestSearch:
    """For each of the points [n, d] the nearest of the centres [m, d] that `look` is given piece by piece.

    positions: int [n], counted through all pieces; distances: float64 [n], Euclidean.
    """

    def __init__(self, points: np.ndarray):
        self.points, self.squares = points, _squares(points)
        self.positions, self.distances = np.zeros(len(points), np.int64), np.full(len(points), np.inf)
        self.seen = 0

    def look(self, centres: np.ndarray) -> None:
        """Takes more centres into account."""
        for start in range(0, len(centres), PIECE):
            piece = centres[start : start + PIECE]
            squares = _squares(piece)
            for first in range(0, len(self.points), POINTS):
                part = slice(first, first + POINTS)
                # |a - b|^2 = |a|^2 - 2 a.b + |b|^2 costs one product of matrices, and finds the nearest; its distance
                # would suffer from the cancellation where two are almost equal, and is taken from the difference.
                found = (squares - 2 * (self.points[part] @ piece.T)).argmin(axis=1)
                distances = np.linalg.norm(self.points[part].astype(np.float64) - piece[found], axis=1)
                closer = distances < self.distances[part]
                self.positions[part] = np.where(closer, self.seen + start + found, self.positions[part])
                self.distances[part] = np.where(closer, distances, self.distances[part])
        self.seen += len(centres)


def _squares(points: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", points, points)


def pixels(images: np.ndarray) -> np.ndarray:
    """Points, float32 [n, d], of uint8 images [n, h, w, c], whose distance is the root mean square difference of two
    images, 0 to 255."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    return flat / np.sqrt(np.float32(flat.shape[1]))


def near_copies(fake: np.ndarray, test: np.ndarray, share: float) -> tuple[float, float]:
    """The share of generated images that are at least as near to a training image as the nearest `share` of the test
    images are, which is `share` for test images by construction; and that distance.

    fake, test: distances to the nearest training image [n], [m].
    """
    threshold = float(np.quantile(test, share))
    return float(np.mean(fake <= threshold)), threshold


def distance_ratio(fake: np.ndarray, test: np.ndarray) -> float:
    """Median distance of generated images to their nearest training image over that of test images: near 1 for new
    images, near 0 for copies; NaN where half of the test images are training images."""
    of_test = float(np.median(test))
    return float(np.median(fake)) / of_test if of_test > 0 else float("nan")
