"""The gate for classifiers: figures and intervals against closed forms and plain loops, each rule of the policy, and
how often the shipped policy promotes candidates of which the truth is known."""

import tracemalloc

import numpy as np
import pytest

from bench.gate import A_POINT, CLASSES, classifiers, promoted_classifiers
from ops.promote.gate import classifiers as gate
from ops.promote.gate.classifiers import (
    class_recalls,
    compare_classifiers,
    drawn_weights,
    gate_metrics,
    paired_bootstrap,
)
from ops.promote.gate.policy import classifier_policy
from stages.training.scores import accuracy
from tests.conftest import ROOT
from tests.ops.promote.gate.cases import line, sure

CASES = 200


@pytest.fixture(autouse=True)
def shipped_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


# ---------------------------------------------------------------- the bootstrap


@pytest.mark.parametrize("elements", [2**24, 500])  # at once, and in parts of few resamples and columns
def test_the_bootstrap_measures_the_drawn_images_as_the_metrics_do(monkeypatch, elements):
    monkeypatch.setattr(gate, "ELEMENTS_AT_A_TIME", elements)
    champion, candidate, labels = classifiers(np.random.default_rng(0), 90, A_POINT)
    differences, recalls = paired_bootstrap(champion, candidate, labels, resamples=12, seed=5)
    rows = max(1, elements // 90)
    for k in range(12):
        part, row = divmod(k, rows)
        drawn = np.repeat(np.arange(90), drawn_weights(90, min(rows, 12 - part * rows), 5, part)[row].astype(int))
        assert len(drawn) == 90
        sides = [gate_metrics(side[drawn], labels[drawn]) for side in (champion, candidate)]
        for name, values in differences.items():
            assert values[k] == pytest.approx(sides[1][name] - sides[0][name], abs=1e-6)
        plain = class_recalls(candidate[drawn], labels[drawn]) - class_recalls(champion[drawn], labels[drawn])
        np.testing.assert_allclose(recalls[k], np.nan_to_num(plain), atol=1e-7)


def test_the_interval_of_the_accuracy_is_that_of_paired_shares():
    """Of b images that only the candidate gets right and c that only the champion does: the variance of the difference
    (b - c) / n is ((b + c) / n - ((b - c) / n)^2) / n."""
    count, gained, lost = 5000, 200, 120
    labels = np.zeros(count, int)
    champion, candidate = np.zeros(count, int), np.zeros(count, int)
    champion[:gained] = 1
    candidate[gained : gained + lost] = 1
    decision = compare_classifiers(sure(champion, 2), sure(candidate, 2), labels, ["a", "b"], classifier_policy())
    found = line(decision, "accuracy")
    difference = (gained - lost) / count
    error = np.sqrt(((gained + lost) / count - difference**2) / count)
    assert found.difference == pytest.approx(difference)
    assert found.low == pytest.approx(difference - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(difference + 1.96 * error, abs=0.1 * error)
    assert found.passed


def test_a_hundred_thousand_images_take_bounded_memory():
    champion, candidate, labels = classifiers(np.random.default_rng(0), 100_000, A_POINT)
    policy = classifier_policy().model_copy(update={"resamples": 400})
    drawn_weights.cache_clear()
    tracemalloc.start()
    decision = compare_classifiers(champion, candidate, labels, CLASSES, policy)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    drawn_weights.cache_clear()
    assert decision.promote
    assert peak < 400 * 2**20


# ---------------------------------------------------------------- the rules for classifiers


def test_a_first_model_is_held_to_the_floors_alone():
    labels = np.arange(100) % 2
    good, bad = sure(labels, 2), sure(np.where(np.arange(100) < 45, labels, 1 - labels), 2)
    assert compare_classifiers(None, good, labels, ["a", "b"], classifier_policy()).promote
    refused = compare_classifiers(None, bad, labels, ["a", "b"], classifier_policy())
    assert not refused.promote
    assert refused.reason == "accuracy 0.4500 is below the floor of 0.5"
    assert all(found.champion is None and found.low is None for found in refused.lines)


def test_the_same_network_again_is_not_promoted():
    champion, _, labels = classifiers(np.random.default_rng(0), 500)
    decision = compare_classifiers(champion, champion, labels, CLASSES, classifier_policy())
    assert not decision.promote
    assert {found.difference for found in decision.lines} == {0.0}
    assert decision.reason.startswith("accuracy is not shown to be better (+0.0000, 95% interval +0.0000 to +0.0000)")


@pytest.mark.parametrize(("confidence", "metric"), [(0.999, "nll"), (0.6, "ece")])
def test_a_better_accuracy_does_not_pay_for_bad_probabilities(confidence, metric):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 3000)
    champion, candidate = (np.where(random.random(3000) < share, labels, (labels + 1) % 3) for share in (0.90, 0.94))
    decision = compare_classifiers(
        sure(champion, 3), sure(candidate, 3, confidence), labels, ["a", "b", "c"], classifier_policy()
    )
    assert line(decision, "accuracy").passed
    assert not decision.promote
    assert not line(decision, metric).passed
    assert f"{metric} may be worse by more than" in decision.reason


def test_no_class_pays_for_the_others_but_one_unlucky_image_is_no_obstacle():
    labels = np.repeat([0, 1], [2000, 38])
    champion, candidate = labels.copy(), labels.copy()
    champion[:200] = 1
    policy = classifier_policy().model_copy(update={"guards": {}})
    for lost, promoted in ((2, True), (12, False)):  # 2 of 38 are more than 5 points, and may be chance
        candidate[-lost:] = 0
        decision = compare_classifiers(sure(champion, 2), sure(candidate, 2), labels, ["many", "few"], policy)
        assert decision.promote is promoted, decision.reason
    assert "recall of few falls by more than 0.05 (-0.3158" in decision.reason
    assert not line(decision, "recall of few").passed


def test_another_main_metric_and_guards_that_are_left_out():
    _, candidate, labels = classifiers(np.random.default_rng(0), 2000)
    policy = classifier_policy().model_copy(update={"main": "nll", "guards": {}, "class_recall": None, "floors": {}})
    sharper = candidate**1.2 / (candidate**1.2).sum(axis=1, keepdims=True)  # the same accuracy
    decision = compare_classifiers(candidate, sharper, labels, CLASSES, policy)
    nll = line(decision, "nll")
    assert decision.promote is (nll.high is not None and nll.high < 0)
    assert [found.metric for found in decision.lines if found.rule] == ["nll"]
    assert nll.rule == "below 0"


def test_probabilities_that_are_no_numbers_are_refused():
    champion, candidate, labels = classifiers(np.random.default_rng(0), 50)
    candidate[0] = np.nan
    with pytest.raises(ValueError, match="not finite numbers"):
        compare_classifiers(champion, candidate, labels, CLASSES, classifier_policy())


def test_of_many_classes_those_that_lose_most_are_shown_and_those_without_images_are_not():
    labels = np.tile(np.arange(60), 30)
    champion, candidate = labels.copy(), labels.copy()
    champion[labels < 20] = np.where(np.arange(600) % 2, labels[labels < 20], 61)
    candidate[labels == 59] = 3
    names = [f"c{k}" for k in range(62)]
    decision = compare_classifiers(sure(champion, 62), sure(candidate, 62), labels, names, classifier_policy())
    recalls = [found for found in decision.lines if found.metric.startswith("recall")]
    assert len(recalls) == gate.SHOWN_CLASSES
    assert not line(decision, "recall of c59").passed
    assert not {"recall of c60", "recall of c61"} & {found.metric for found in recalls}


def test_shapes_that_do_not_agree_are_named():
    with pytest.raises(ValueError, match=r"expected probabilities \[4, 3\], got \[4, 2\]"):
        compare_classifiers(None, np.ones((4, 2)), np.zeros(4, int), ["a", "b", "c"], classifier_policy())


# ---------------------------------------------------------------- how often the shipped policy promotes


@pytest.mark.slow
@pytest.mark.parametrize("count", [400, 10_000])
def test_an_equal_classifier_is_rarely_promoted(count):
    assert promoted_classifiers(CASES, count) <= 0.05 * CASES


@pytest.mark.slow
def test_a_classifier_that_is_a_point_better_on_ten_thousand_images_is_promoted():
    champion, candidate, labels = classifiers(np.random.default_rng(0), 400_000, A_POINT)
    gained = accuracy(candidate, labels) - accuracy(champion, labels)
    assert gained == pytest.approx(0.01, abs=0.0006)  # what is simulated is a point indeed
    assert promoted_classifiers(CASES, 10_000, A_POINT) >= 0.95 * CASES
