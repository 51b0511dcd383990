"""stages.evaluation.classifier.selective: risk against coverage by hand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from stages.evaluation.classifier.selective import area_under_risk_coverage, risk_coverage

RANDOM = np.random.default_rng(0)


def test_agrees_with_the_accuracy_of_the_most_confident():
    confidence, hits = RANDOM.random(200), RANDOM.random(200) < 0.8
    coverage, risk = risk_coverage(confidence, hits)
    for k in (1, 17, 100, 200):
        kept = np.argsort(-confidence)[:k]
        assert coverage[k - 1] == k / 200
        assert risk[k - 1] == pytest.approx(1 - accuracy_score(np.ones(k, bool), hits[kept]))
    assert area_under_risk_coverage(confidence, hits) == pytest.approx(risk.mean())


def test_closed_forms():
    hits = np.array([True, True, False, False])
    assert area_under_risk_coverage(np.arange(4.0), ~np.zeros(4, bool)) == 0
    assert area_under_risk_coverage(np.array([4, 3, 2, 1.0]), hits) == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)
    assert area_under_risk_coverage(np.array([1, 2, 3, 4.0]), hits) == pytest.approx((1 + 1 + 2 / 3 + 2 / 4) / 4)


def test_equal_confidences_are_the_mean_over_their_orders():
    hits = np.array([True, False, True, True])
    confidence = np.array([1.0, 1, 1, 0])
    orders = [np.array(order) for order in ([0, 1, 2, 3], [1, 0, 2, 3], [0, 2, 1, 3])]  # the mistake in each place
    risks = [np.cumsum(~hits[order]) / np.arange(1, 5) for order in orders]
    np.testing.assert_allclose(risk_coverage(confidence, hits)[1], np.mean(risks, axis=0))
    assert area_under_risk_coverage(np.ones(50), np.arange(50) < 40) == pytest.approx(0.2)
