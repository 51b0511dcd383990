"""stages.evaluation.classifier.intervals: the bootstrap against plain resampling and closed forms."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from stages.evaluation.classifier import intervals, scores
from stages.evaluation.classifier.intervals import (
    bootstrap,
    bootstrap_area_under_roc,
    bootstrap_mean,
    bootstrap_risk_coverage,
    draw_weights,
    interval,
)
from stages.evaluation.classifier.outliers import area_under_roc
from stages.evaluation.classifier.selective import area_under_risk_coverage
from stages.training.scores import accuracy, negative_log_likelihood, softmax

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 4, 120)
LOGITS = RANDOM.normal(0, 1.5, (120, 4)) + 2 * np.eye(4)[LABELS]
PROBABILITIES, CALIBRATED = softmax(LOGITS), softmax(LOGITS / 2)


def test_every_figure_is_the_metric_on_the_resampled_images():
    found = bootstrap(PROBABILITIES, CALIBRATED, LABELS, 2, 30, seed=5)
    for row, weights in enumerate(np.concatenate(list(draw_weights(120, 30, seed=5)))):
        drawn = np.repeat(np.arange(120), weights.astype(int))
        given, labels = PROBABILITIES[drawn], LABELS[drawn]
        expected = {
            "accuracy": accuracy(given, labels),
            "macro_f1": scores.macro_f1(given, labels),
            "top2_accuracy": scores.top_k_accuracy(given, labels, 2),
            "nll": negative_log_likelihood(given, labels),
            "brier": scores.brier_score(given, labels),
            "ece": scores.expected_calibration_error(given, labels),
            "nll_calibrated": negative_log_likelihood(CALIBRATED[drawn], labels),
            "brier_calibrated": scores.brier_score(CALIBRATED[drawn], labels),
            "ece_calibrated": scores.expected_calibration_error(CALIBRATED[drawn], labels),
        }
        assert {name: values[row] for name, values in found.metrics.items()} == pytest.approx(expected)
        precision, recall = scores.class_precision_and_recall(given, labels)
        np.testing.assert_allclose(found.precision[row], precision)
        np.testing.assert_allclose(found.recall[row], recall)


def test_each_resample_draws_as_many_images_as_there_are_whatever_the_memory(monkeypatch):
    whole = np.concatenate(list(draw_weights(50, 40, seed=1)))
    assert (whole.sum(axis=1) == 50).all()
    assert whole.var() == pytest.approx(1 - 1 / 50, rel=0.1)  # of multinomial counts with a mean of 1
    monkeypatch.setattr(intervals, "ELEMENTS_AT_A_TIME", 350)
    parts = list(draw_weights(50, 40, seed=1))
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_interval_of_a_share_is_that_of_the_normal_distribution():
    hits = np.arange(2000) % 5 > 0  # 0.8
    probabilities = np.where(hits[:, None], [0.9, 0.1], [0.1, 0.9])
    found = bootstrap(probabilities, probabilities, np.zeros(2000, int), 1, 2000, seed=0)
    half = 1.96 * np.sqrt(0.8 * 0.2 / 2000)
    assert interval(found.metrics["accuracy"]) == pytest.approx((0.8 - half, 0.8 + half), abs=0.002)


def test_covers_the_truth_about_95_times_in_100():
    inside = 0
    for trial in range(120):
        random = np.random.default_rng([7, trial])
        hits = random.random(150) < 0.7
        probabilities = np.where(hits[:, None], [0.9, 0.1], [0.1, 0.9])
        low, high = interval(bootstrap(probabilities, probabilities, np.zeros(150, int), 1, 400, trial).metrics["nll"])
        inside += low <= -(0.7 * np.log(0.9) + 0.3 * np.log(0.1)) <= high
    assert 105 <= inside <= 119


def test_resamples_without_a_class_say_nothing_of_it():
    assert interval(np.array([np.nan, 0.5, np.nan, 0.5])) == (0.5, 0.5)
    assert np.isnan(interval(np.full(4, np.nan))).all()


def drawn(count: int, resamples: int, seed: int) -> np.ndarray:
    """How often each image is drawn, int [resamples, count]."""
    return np.concatenate(list(draw_weights(count, resamples, seed))).astype(int)


@pytest.mark.parametrize("decimals", [1, 8])
@pytest.mark.parametrize("elements", [2**24, 500])
def test_the_area_under_risk_coverage_is_that_of_the_resampled_images(decimals, elements, monkeypatch):
    monkeypatch.setattr(intervals, "ELEMENTS_AT_A_TIME", elements)
    confidence, hits = RANDOM.random(150).round(decimals), RANDOM.random(150) < 0.7
    found = bootstrap_risk_coverage(confidence, hits, 40, seed=2)
    order = np.argsort(-confidence, kind="stable")
    repeats = (np.repeat(order, weights) for weights in drawn(150, 40, 2))
    expected = [area_under_risk_coverage(confidence[again], hits[again]) for again in repeats]
    np.testing.assert_allclose(found, expected)
    assert (bootstrap_risk_coverage(confidence, np.ones(150, bool), 40, seed=2) == 0).all()


@pytest.mark.parametrize("decimals", [1, 8])
@pytest.mark.parametrize("elements", [2**24, 500])
def test_the_area_under_the_roc_is_that_of_the_resampled_images(decimals, elements, monkeypatch):
    monkeypatch.setattr(intervals, "ELEMENTS_AT_A_TIME", elements)
    inliers, outliers = RANDOM.normal(0, 1, 120).round(decimals), RANDOM.normal(1, 1, 70).round(decimals)
    found = bootstrap_area_under_roc(inliers, outliers, 30, seed=4)
    truth, scores = np.repeat([0, 1], [120, 70]), np.concatenate([np.sort(inliers), outliers])
    pairs = zip(drawn(120, 30, 4), drawn(70, 30, 5), strict=True)
    expected = [roc_auc_score(truth, scores, sample_weight=np.concatenate(pair)) for pair in pairs]
    np.testing.assert_allclose(found, expected)


def test_the_interval_of_the_area_under_the_roc_is_that_of_delong():
    """DeLong, DeLong & Clarke-Pearson 1988: variances of the shares of pairs that an image wins, over their numbers."""
    inliers, outliers = RANDOM.normal(0, 1, 400), RANDOM.normal(1, 1.5, 250)
    won = (outliers[:, None] > inliers).astype(float)
    error = np.sqrt(won.mean(axis=0).var(ddof=1) / 400 + won.mean(axis=1).var(ddof=1) / 250)
    area = area_under_roc(inliers, outliers)
    low, high = interval(bootstrap_area_under_roc(inliers, outliers, 2000, seed=0))
    assert (low, high) == pytest.approx((area - 1.96 * error, area + 1.96 * error), abs=0.15 * error)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = RANDOM.random(500)
    found = bootstrap_mean(values, 2000, seed=0)
    half = 1.96 * values.std() / np.sqrt(500)
    assert interval(found) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    np.testing.assert_allclose(found[:20], [np.repeat(values, w).mean() for w in drawn(500, 2000, 0)[:20]], rtol=1e-6)
