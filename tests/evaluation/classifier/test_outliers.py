"""stages.evaluation.classifier.outliers: scores and AUROC against scikit-learn and closed forms."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from stages.evaluation.classifier.outliers import (
    area_under_roc,
    choose_outlier_score,
    digit_images,
    noise_images,
    out_of_distribution_images,
    photo_images,
)
from stages.serving.classifier.outlier_scores import energy, neighbour_distance
from stages.training.scores import softmax

RANDOM = np.random.default_rng(0)


def test_energy_is_the_logarithm_that_softmax_divides_by():
    logits = RANDOM.normal(0, 3, (50, 4))
    np.testing.assert_allclose(np.exp(logits + energy(logits)[:, None]), softmax(logits))
    assert energy(np.zeros((1, 8))) == pytest.approx(-np.log(8))
    assert np.isfinite(energy(np.full((1, 2), 1e4))).all()


@pytest.mark.parametrize("neighbours", [1, 7, 30, 99])
def test_distances_agree_with_scikit_learn(neighbours):
    bank, features = RANDOM.random((30, 6)), RANDOM.random((1500, 6))
    normed = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (bank, features)]
    search = NearestNeighbors(n_neighbors=min(neighbours, 30)).fit(normed[0])
    found = neighbour_distance(features.astype(np.float32), bank.astype(np.float32), neighbours)
    np.testing.assert_allclose(found, search.kneighbors(normed[1])[0][:, -1], atol=1e-5)


def test_features_without_length_have_a_distance_too():
    assert np.isfinite(neighbour_distance(np.zeros((2, 3)), np.ones((4, 3)), 1)).all()


def test_auroc_agrees_with_scikit_learn():
    inliers, outliers = RANDOM.normal(0, 1, 300).round(1), RANDOM.normal(1, 1, 200).round(1)  # with ties
    truth = np.repeat([0, 1], [300, 200])
    assert area_under_roc(inliers, outliers) == pytest.approx(roc_auc_score(truth, np.concatenate([inliers, outliers])))
    assert area_under_roc(np.zeros(3), np.ones(3)) == 1
    assert area_under_roc(np.ones(3), np.ones(5)) == 0.5


@pytest.mark.parametrize("make", [noise_images, digit_images, photo_images])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 3), (450, 450, 3)])
def test_strange_images_have_the_shape_asked_for_and_depend_on_the_seed(make, shape):
    images = make(shape, 6, 0)
    assert images.shape == (6, *shape)
    assert images.dtype == np.uint8
    assert all(image.std() > 2 for image in images)
    assert len(np.unique(images.reshape(6, -1), axis=0)) == 6
    np.testing.assert_array_equal(make(shape, 6, 0), images)
    assert (make(shape, 6, 1) != images).any()


def test_noise_is_even_and_digits_are_white_on_black():
    noise = noise_images((16, 16, 1), 200, 0)
    assert np.bincount(noise.ravel(), minlength=256) == pytest.approx(200, rel=0.4)
    digits = digit_images((16, 16, 1), 2000, 0)
    assert len(digits) == 1797
    assert np.median(digits[:, :, :2]) == 0
    assert (digits.max(axis=(1, 2, 3)) > 200).all()


def test_digits_are_not_strange_to_a_classifier_of_digits():
    assert out_of_distribution_images((8, 8, 1), 10, [*"9876543210"], 0).keys() == {"noise", "photos"}
    assert out_of_distribution_images((8, 8, 1), 10, ["cat", "dog"], 0).keys() == {"noise", "photos", "digits"}


def test_the_outlier_score_is_the_one_that_tells_noise_apart():
    near, far = RANDOM.normal(5, 1, (200, 4)), RANDOM.normal(-5, 1, (100, 4))
    same, sure = RANDOM.normal(0, 1, (200, 3)), RANDOM.normal(9, 1, (200, 3))
    options: dict[str, Any] = {"neighbours": 5, "accepted": 0.9, "temperature": 1.0}
    by_distance = choose_outlier_score((near, same), (far, same[:100]), near, **options)
    assert len(by_distance.bank) == 200
    for features, bank in ((near, near), (near[:100], near[:0])):
        by_energy = choose_outlier_score((near, sure), (features[:100], same[:100]), bank, **options)
        assert len(by_energy.bank) == 0
        accepted = by_energy.scores(near, sure) <= by_energy.threshold
        assert accepted.mean() == pytest.approx(0.9, abs=0.005)
    # Where both tell all of it apart, it is the one that needs no images.
    assert len(choose_outlier_score((near, sure), (far, same[:100]), near, **options).bank) == 0
