"""stages.evaluation.generator.memorisation: nearest images against scikit-learn, and generators that copy or do not."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from stages.evaluation.generator import memorisation
from stages.evaluation.generator.memorisation import NearestSearch, distance_ratio, near_copies, pixels

RANDOM = np.random.default_rng(0)


def searched(points: np.ndarray, *pieces: np.ndarray) -> NearestSearch:
    search = NearestSearch(points)
    for piece in pieces:
        search.add(piece)
    return search


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_nearest_of_all_pieces_is_that_of_scikit_learn(dtype, monkeypatch):
    monkeypatch.setattr(memorisation, "CENTRES_AT_A_TIME", 70)
    monkeypatch.setattr(memorisation, "POINTS_AT_A_TIME", 33)
    points, centres = RANDOM.normal(size=(120, 5)).astype(dtype), RANDOM.normal(size=(300, 5)).astype(dtype)
    found = searched(points, centres[:100], centres[100:250], centres[250:])
    distances, positions = NearestNeighbors(n_neighbors=1).fit(centres).kneighbors(points)
    np.testing.assert_array_equal(found.positions, positions[:, 0])
    np.testing.assert_allclose(found.distances, distances[:, 0], rtol=1e-6)


def test_a_copy_is_at_a_distance_of_0_however_large_the_numbers():
    images = RANDOM.integers(0, 256, (50, 16, 16, 3), dtype=np.uint8)
    found = searched(pixels(images[10:20]), pixels(images))
    np.testing.assert_array_equal(found.positions, np.arange(10, 20))
    assert (found.distances == 0).all()


def test_pixel_distances_are_root_mean_squares():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[1] = 255
    assert searched(pixels(images[:1]), pixels(images[1:])).distances == pytest.approx([255])
    images[1, 2:] = 0
    assert searched(pixels(images[:1]), pixels(images[1:])).distances == pytest.approx([255 / np.sqrt(2)])


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
def test_test_images_are_near_copies_in_the_share_asked_for(share):
    test = RANDOM.gamma(5, 1, 2000)
    found, threshold = near_copies(test, test, share)
    assert found == pytest.approx(share, abs=1 / 2000)
    assert threshold == pytest.approx(np.quantile(test, share))


def distances_of(fake: np.ndarray, train: np.ndarray) -> np.ndarray:
    return searched(fake, train).distances


def test_copies_among_the_generated_images_are_counted():
    train, test, fresh = RANDOM.normal(size=(3, 1000, 8))
    of_test, of_fresh = distances_of(test, train), distances_of(fresh, train)
    assert near_copies(of_fresh, of_test, 0.01)[0] < 0.03
    assert distance_ratio(of_fresh, of_test) == pytest.approx(1, abs=0.05)
    thieving = np.where(np.arange(1000)[:, None] < 300, train + RANDOM.normal(0, 0.01, train.shape), fresh)
    assert near_copies(distances_of(thieving, train), of_test, 0.01)[0] == pytest.approx(0.3, abs=0.02)
    assert distance_ratio(distances_of(train, train), of_test) == 0
    assert distance_ratio(distances_of(test + 5, train), of_test) > 5


def test_where_test_images_are_training_images_there_is_no_ratio():
    assert np.isnan(distance_ratio(np.ones(3), np.zeros(3)))
    assert near_copies(np.array([0.0, 1.0]), np.zeros(3), 0.01) == (0.5, 0.0)
