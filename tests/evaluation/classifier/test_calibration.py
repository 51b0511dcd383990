"""stages.evaluation.classifier.calibration: the fitted temperature against closed forms."""

import numpy as np
import pytest
from scipy.optimize import minimize

from stages.evaluation.classifier.calibration import fit_temperature
from stages.evaluation.classifier.scores import expected_calibration_error
from stages.training.scores import negative_log_likelihood, softmax

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 2, (20_000, 5))
LABELS = (softmax(LOGITS).cumsum(axis=1) < RANDOM.random((20_000, 1))).sum(axis=1)  # drawn from the probabilities


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_finds_the_factor_that_the_logits_were_scaled_by(factor):
    temperature = fit_temperature((factor * LOGITS).astype(np.float32), LABELS)
    assert temperature == pytest.approx(factor, rel=0.03)
    before, after = softmax(factor * LOGITS), softmax(factor * LOGITS / temperature)
    assert negative_log_likelihood(after, LABELS) <= negative_log_likelihood(before, LABELS) + 1e-4
    assert expected_calibration_error(after, LABELS) < 0.015


def test_agrees_with_another_optimiser_of_the_likelihood():
    def loss(log_temperature):
        return negative_log_likelihood(softmax(2 * LOGITS / np.exp(log_temperature[0])), LABELS)

    expected = np.exp(minimize(loss, [0.0], method="Nelder-Mead").x[0])
    assert fit_temperature(2 * LOGITS, LABELS) == pytest.approx(expected, rel=0.01)


def test_closed_form_of_two_classes():
    # Equal margins, 3 of 4 right and, by Platt's targets, 1 of 6 besides: p = (3 * 5/6 + 1/6) / 4 at the optimum.
    logits, labels = np.tile([2.0, 0.0], (4, 1)), np.array([0, 0, 0, 1])
    share = (3 * 5 / 6 + 1 / 6) / 4
    assert fit_temperature(logits, labels) == pytest.approx(2 / np.log(share / (1 - share)), rel=1e-4)


def test_stays_away_from_0_where_all_are_right():
    logits, labels = 10 * np.eye(4)[np.arange(40) % 4], np.arange(40) % 4
    temperature = fit_temperature(logits, labels)
    # By Platt's targets 41 of 42 are right at best.
    assert softmax(logits / temperature)[0, 0] == pytest.approx(41 / 42, rel=1e-3)


def test_the_order_of_the_classes_never_changes():
    temperature = fit_temperature(LOGITS, LABELS)
    np.testing.assert_array_equal(softmax(LOGITS / temperature).argmax(axis=1), LOGITS.argmax(axis=1))


def test_one_class_has_nothing_to_calibrate():
    assert np.isfinite(fit_temperature(np.ones((3, 1)), np.zeros(3, int)))
