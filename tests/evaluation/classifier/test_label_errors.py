"""stages.evaluation.classifier.label_errors: the definition by hand, and planted errors."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from stages.evaluation.classifier.label_errors import estimated_errors, held_out_probabilities, suspected_labels


def test_the_definition_by_hand():
    # Class 0 has a threshold of (0.9 + 0.7 + 0.2) / 3 = 0.6, class 1 of (0.8 + 0.6 + 0.3) / 3 = 0.567.
    own = np.array([0.9, 0.7, 0.2, 0.8, 0.6, 0.3])
    labels = np.array([0, 0, 0, 1, 1, 1])
    of_0 = np.where(labels == 0, own, 1 - own)
    indices, suggested, scores = suspected_labels(np.stack([of_0, 1 - of_0], axis=1), labels)
    assert indices.tolist() == [2, 5]  # of 0.8 for class 1, and of 0.7 for class 0
    assert suggested.tolist() == [1, 0]
    assert scores == pytest.approx([(1 + 0.8 - 0.2) / 2, (1 + 0.7 - 0.3) / 2])


def test_images_that_count_for_no_class_are_estimated_from_those_that_count():
    of_0 = np.array([0.9, 0.8, 0.59, 0.45, 0.05, 0.1, 0.1, 0.1])
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    # The thresholds are 0.558 and 0.9: of the first five, three count for class 0, one for class 1 and one for none.
    assert estimated_errors(np.stack([of_0, 1 - of_0], axis=1), labels).tolist() == [[0, round(5 / 4)], [0, 0]]
    of_0[2] = 0.4  # now two count for class 0 and one for class 1
    probabilities = np.stack([of_0, 1 - of_0], axis=1)
    assert estimated_errors(probabilities, labels).tolist() == [[0, round(5 / 3)], [0, 0]]
    assert suspected_labels(probabilities, labels)[0].tolist() == [4, 2]  # the second of which counted for none


@pytest.mark.parametrize("seed", range(5))
def test_planted_errors_are_found_and_right_labels_left_alone(seed):
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, 1200)
    features = random.normal(0, 1, (1200, 2)) + 6 * np.array([[0, 0], [1, 0], [0, 1], [1, 1]])[truth]
    planted = random.choice(1200, 80, replace=False)
    labels = truth.copy()
    labels[planted] = (truth[planted] + random.integers(1, 4, 80)) % 4
    probabilities = cross_val_predict(LogisticRegression(), features, labels, cv=2, method="predict_proba")
    indices, suggested, scores = suspected_labels(probabilities, labels)
    found = np.isin(indices, planted)
    assert found.sum() >= 70
    assert found[:60].mean() > 0.95  # the most suspicious first
    assert estimated_errors(probabilities, labels).sum() == pytest.approx(80, rel=0.15)
    assert (suggested[found] == truth[indices[found]]).mean() > 0.9
    assert (suggested != labels[indices]).all()
    assert (np.diff(scores) <= 0).all()
    assert ((scores > 0) & (scores <= 1)).all()


def test_a_perfect_classifier_suspects_nobody_and_an_absent_class_is_not_suggested():
    assert len(suspected_labels(np.eye(3), np.arange(3))[0]) == 0
    never_seen = np.tile([0.0, 0.1, 0.9], (4, 1))
    assert 2 not in suspected_labels(never_seen, np.array([0, 1, 0, 1]))[1]


def test_wrong_labels_are_found_by_networks_that_never_saw_them():
    labels = np.arange(240) % 3
    images = np.random.default_rng(0).integers(0, 60, (240, 12, 12, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 2] += np.uint8(180)
    planted = np.arange(0, 240, 20)
    given = labels.copy()
    given[planted] = (labels[planted] + 1) % 3
    probabilities = held_out_probabilities(images, given, 3, steps=60, batch_size=32, lr=5e-3, seed=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    indices, suggested, _ = suspected_labels(probabilities, given)
    assert set(planted) >= set(indices[:6])
    assert len(set(indices) & set(planted)) >= 8
    here = np.isin(indices, planted)
    np.testing.assert_array_equal(suggested[here], labels[indices[here]])
