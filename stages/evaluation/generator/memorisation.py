"""Whether a generator copies its training images: the distances of its images to the nearest of them, compared with
those of test images, which it cannot have copied."""

import numpy as np

CENTRES_AT_A_TIME, POINTS_AT_A_TIME = 4096, 1000  # a matrix of their distances takes 33 MB in float64


class NearestSearch:
    """For each of the points [n, d] the nearest of the centres [m, d], which arrive piece by piece.

    positions: int [n], in the concatenation of all pieces; distances: float64 [n], Euclidean.
    """

    def __init__(self, points: np.ndarray):
        self.points, self.squares = points, _squares(points)
        self.positions, self.distances = np.zeros(len(points), np.int64), np.full(len(points), np.inf)
        self.searched = 0

    def add(self, centres: np.ndarray) -> None:
        """Searches more centres."""
        for start in range(0, len(centres), CENTRES_AT_A_TIME):
            piece = centres[start : start + CENTRES_AT_A_TIME]
            squares = _squares(piece)
            for first in range(0, len(self.points), POINTS_AT_A_TIME):
                part = slice(first, first + POINTS_AT_A_TIME)
                # |a - b|^2 = |a|^2 - 2 a.b + |b|^2 costs one matrix product and finds the nearest. The distance comes
                # from the difference, because the formula loses precision where two are almost equal.
                found = (squares - 2 * (self.points[part] @ piece.T)).argmin(axis=1)
                distances = np.linalg.norm(self.points[part].astype(np.float64) - piece[found], axis=1)
                closer = distances < self.distances[part]
                self.positions[part] = np.where(closer, self.searched + start + found, self.positions[part])
                self.distances[part] = np.where(closer, distances, self.distances[part])
        self.searched += len(centres)


def _squares(points: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", points, points)


def pixels(images: np.ndarray) -> np.ndarray:
    """uint8 images [n, h, w, c] as points, float32 [n, d]; the distance of two is the root mean square difference of
    their images, 0 to 255."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    return flat / np.sqrt(np.float32(flat.shape[1]))


def near_copies(fake: np.ndarray, test: np.ndarray, share: float) -> tuple[float, float]:
    """The share of generated images that are at least as near to a training image as the nearest `share` of the test
    images, and the distance of these; test images have the share `share` by construction.

    fake, test: distances to the nearest training image [n], [m].
    """
    threshold = float(np.quantile(test, share))
    return float(np.mean(fake <= threshold)), threshold


def distance_ratio(fake: np.ndarray, test: np.ndarray) -> float:
    """Median distance of generated images to their nearest training image over that of test images: near 1 for new
    images, near 0 for copies; NaN when half of the test images are training images."""
    of_test = float(np.median(test))
    return float(np.median(fake)) / of_test if of_test > 0 else float("nan")
