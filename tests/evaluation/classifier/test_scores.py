"""stages.evaluation.classifier.scores against scikit-learn and by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sklearn_metrics

from stages.evaluation.classifier.scores import (
    CALIBRATION_BINS,
    brier_score,
    calibration_bins,
    class_precision_and_recall,
    confusion_matrix,
    expected_calibration_error,
    macro_f1,
    top_k_accuracy,
    wilson_interval,
)
from stages.training.scores import accuracy, negative_log_likelihood, softmax

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 2, (500, 6)).astype(np.float32)
PROBABILITIES = softmax(LOGITS)
LABELS = RANDOM.integers(0, 5, 500)  # class 5 is predicted and never true
PREDICTED = PROBABILITIES.argmax(axis=1)


def test_softmax_adds_up_and_ignores_a_shift():
    np.testing.assert_allclose(PROBABILITIES.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(softmax(np.array([[0.0, np.log(3.0)]])), [[0.25, 0.75]])
    np.testing.assert_allclose(softmax(np.array([[1e4, 1e4]], np.float32)), [[0.5, 0.5]])


def test_agrees_with_scikit_learn():
    classes = list(range(6))
    assert accuracy(PROBABILITIES, LABELS) == pytest.approx(sklearn_metrics.accuracy_score(LABELS, PREDICTED))
    np.testing.assert_array_equal(
        confusion_matrix(PROBABILITIES, LABELS), sklearn_metrics.confusion_matrix(LABELS, PREDICTED, labels=classes)
    )
    f1 = sklearn_metrics.f1_score(LABELS, PREDICTED, labels=classes, average="macro", zero_division=0)
    assert macro_f1(PROBABILITIES, LABELS) == pytest.approx(f1)
    nll = sklearn_metrics.log_loss(LABELS, PROBABILITIES, labels=classes)
    assert negative_log_likelihood(PROBABILITIES, LABELS) == pytest.approx(nll)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_top_k_agrees_with_scikit_learn(k):
    expected = sklearn_metrics.top_k_accuracy_score(LABELS, PROBABILITIES, k=k, labels=range(6))
    assert top_k_accuracy(PROBABILITIES, LABELS, k) == pytest.approx(expected)
    assert top_k_accuracy(PROBABILITIES, LABELS, 1) == accuracy(PROBABILITIES, LABELS)
    assert top_k_accuracy(PROBABILITIES, LABELS, 6) == 1


def test_of_equally_probable_classes_the_first_are_the_top():
    assert [top_k_accuracy(np.full((4, 4), 0.25), np.arange(4), k) for k in (1, 2, 3, 4)] == [0.25, 0.5, 0.75, 1]


def test_brier_score_closed_forms_and_scikit_learn():
    assert brier_score(np.eye(3), np.arange(3)) == pytest.approx(0)
    assert brier_score(np.eye(3), np.array([1, 2, 0])) == pytest.approx(2)
    assert brier_score(np.full((4, 8), 1 / 8), np.arange(4)) == pytest.approx(7 / 8)
    two = PROBABILITIES[:, :2] / PROBABILITIES[:, :2].sum(axis=1, keepdims=True)
    of_one = sklearn_metrics.brier_score_loss(LABELS % 2, two[:, 1])
    assert brier_score(two, LABELS % 2) == pytest.approx(2 * of_one)


def test_precision_and_recall_of_each_class_agree_with_scikit_learn():
    precision, recall = class_precision_and_recall(PROBABILITIES, LABELS)
    options = {"labels": list(range(6)), "average": None, "zero_division": np.nan}
    np.testing.assert_allclose(precision, sklearn_metrics.precision_score(LABELS, PREDICTED, **options))
    np.testing.assert_allclose(recall, sklearn_metrics.recall_score(LABELS, PREDICTED, **options))
    assert np.isnan(recall[5])


def test_rows_of_the_confusion_matrix_are_labels():
    matrix = confusion_matrix(np.array([[0.1, 0.9, 0.0]] * 3), np.array([0, 0, 2], np.int32))
    assert matrix.tolist() == [[0, 2, 0], [0, 0, 0], [0, 1, 0]]


def test_f1_of_a_class_that_never_occurs_is_0():
    assert macro_f1(np.eye(3)[[0, 1]], np.array([0, 1])) == pytest.approx(2 / 3)


def test_nll_closed_forms():
    assert negative_log_likelihood(np.full((4, 8), 1 / 8), np.arange(4)) == pytest.approx(np.log(8))
    assert negative_log_likelihood(np.eye(3), np.arange(3)) == 0
    assert np.isfinite(negative_log_likelihood(np.eye(3), np.array([1, 2, 0])))


@pytest.mark.parametrize(("hits", "count"), [(90, 100), (5, 10), (0, 20), (20, 20), (1, 3), (9_950, 10_000)])
def test_wilson_interval_agrees_with_scipy(hits, count):
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson_interval(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_wilson_interval_covers_the_truth_95_times_in_100():
    hits = RANDOM.binomial(200, 0.93, 4000)
    inside = [low <= 0.93 <= high for low, high in (wilson_interval(h / 200, 200) for h in hits)]
    assert 0.93 < np.mean(inside) < 0.97


def of_confidence(confidence: float, hits: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.tile([confidence, 1 - confidence], (count, 1)), np.arange(count) >= hits


def test_ece_closed_forms():
    assert expected_calibration_error(np.eye(3), np.arange(3)) == 0
    assert expected_calibration_error(np.eye(3), np.array([1, 2, 0])) == 1
    assert expected_calibration_error(*of_confidence(0.75, 3, 4)) == pytest.approx(0)
    assert expected_calibration_error(*of_confidence(0.9, 7, 10)) == pytest.approx(0.2)
    two = [np.concatenate(pair) for pair in zip(of_confidence(0.9, 7, 10), of_confidence(0.6, 18, 30), strict=True)]
    assert expected_calibration_error(*two) == pytest.approx(0.2 * 10 / 40)


def test_bins_hold_every_image_once_and_empty_ones_are_nan():
    mean, share, count = calibration_bins(PROBABILITIES, LABELS)
    assert len(mean) == len(share) == len(count) == CALIBRATION_BINS
    assert count.sum() == len(LABELS)
    assert np.isnan(mean[count == 0]).all()
    assert np.average(share[count > 0], weights=count[count > 0]) == pytest.approx(accuracy(PROBABILITIES, LABELS))
    assert calibration_bins(np.eye(2), np.arange(2))[2][-1] == 2  # a confidence of exactly 1 is in the last bin
