"""ops.gate: figures and intervals against closed forms and plain loops, each rule of the policy, and how often the
shipped policy promotes candidates of which the truth is known."""

import tracemalloc

import numpy as np
import pytest
import yaml

from bench.gate import A_POINT, CLASSES, classifiers, generators, promoted_classifiers, promoted_generators
from ops import gate
from stages.lib import classification_metrics as classification
from stages.lib.terminal import UserError
from tests.conftest import ROOT

CASES = 200


@pytest.fixture(autouse=True)
def shipped_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def sure(predicted: np.ndarray, classes: int, confidence: float = 0.9) -> np.ndarray:
    """Probabilities [n, classes] of a classifier that gives every prediction the same confidence."""
    probabilities = np.full((len(predicted), classes), (1 - confidence) / (classes - 1))
    probabilities[np.arange(len(predicted)), predicted] = confidence
    return probabilities


def line(decision: gate.Decision, metric: str) -> gate.Line:
    return next(line for line in decision.lines if line.metric == metric)


# ---------------------------------------------------------------- the bootstrap


@pytest.mark.parametrize("elements", [2**24, 500])  # at once, and in parts of few resamples and columns
def test_the_bootstrap_measures_the_drawn_images_as_the_metrics_do(monkeypatch, elements):
    monkeypatch.setattr(gate, "ELEMENTS_AT_A_TIME", elements)
    champion, candidate, labels = classifiers(np.random.default_rng(0), 90, A_POINT)
    differences, recalls = gate._bootstrap(champion, candidate, labels, resamples=12, seed=5)
    rows = max(1, elements // 90)
    for k in range(12):
        part, row = divmod(k, rows)
        drawn = np.repeat(np.arange(90), gate._weights(90, min(rows, 12 - part * rows), 5, part)[row].astype(int))
        assert len(drawn) == 90
        sides = [gate._classifier_figures(side[drawn], labels[drawn]) for side in (champion, candidate)]
        for name, values in differences.items():
            assert values[k] == pytest.approx(sides[1][name] - sides[0][name], abs=1e-6)
        plain = gate._recalls(candidate[drawn], labels[drawn]) - gate._recalls(champion[drawn], labels[drawn])
        np.testing.assert_allclose(recalls[k], np.nan_to_num(plain), atol=1e-7)


def test_the_interval_of_the_accuracy_is_that_of_paired_shares():
    """Of b images that only the candidate gets right and c that only the champion does: the variance of the difference
    (b - c) / n is ((b + c) / n - ((b - c) / n)^2) / n."""
    count, gained, lost = 5000, 200, 120
    labels = np.zeros(count, int)
    champion, candidate = np.zeros(count, int), np.zeros(count, int)
    champion[:gained] = 1
    candidate[gained : gained + lost] = 1
    decision = gate.compare_classifiers(
        sure(champion, 2), sure(candidate, 2), labels, ["a", "b"], gate.classifier_policy()
    )
    found = line(decision, "accuracy")
    difference = (gained - lost) / count
    error = np.sqrt(((gained + lost) / count - difference**2) / count)
    assert found.difference == pytest.approx(difference)
    assert found.low == pytest.approx(difference - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(difference + 1.96 * error, abs=0.1 * error)
    assert found.passed


def test_a_hundred_thousand_images_take_bounded_memory():
    champion, candidate, labels = classifiers(np.random.default_rng(0), 100_000, A_POINT)
    policy = gate.classifier_policy().model_copy(update={"resamples": 400})
    gate._weights.cache_clear()
    tracemalloc.start()
    decision = gate.compare_classifiers(champion, candidate, labels, CLASSES, policy)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    gate._weights.cache_clear()
    assert decision.promote
    assert peak < 400 * 2**20


# ---------------------------------------------------------------- the rules for classifiers


def test_a_first_model_is_held_to_the_floors_alone():
    labels = np.arange(100) % 2
    good, bad = sure(labels, 2), sure(np.where(np.arange(100) < 45, labels, 1 - labels), 2)
    assert gate.compare_classifiers(None, good, labels, ["a", "b"], gate.classifier_policy()).promote
    refused = gate.compare_classifiers(None, bad, labels, ["a", "b"], gate.classifier_policy())
    assert not refused.promote
    assert refused.reason == "accuracy 0.4500 is below the floor of 0.5"
    assert all(found.champion is None and found.low is None for found in refused.lines)


def test_the_same_network_again_is_not_promoted():
    champion, _, labels = classifiers(np.random.default_rng(0), 500)
    decision = gate.compare_classifiers(champion, champion, labels, CLASSES, gate.classifier_policy())
    assert not decision.promote
    assert {found.difference for found in decision.lines} == {0.0}
    assert decision.reason.startswith("accuracy is not shown to be better (+0.0000, 95% interval +0.0000 to +0.0000)")


@pytest.mark.parametrize(("confidence", "metric"), [(0.999, "nll"), (0.6, "ece")])
def test_a_better_accuracy_does_not_pay_for_bad_probabilities(confidence, metric):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 3000)
    champion, candidate = (np.where(random.random(3000) < share, labels, (labels + 1) % 3) for share in (0.90, 0.94))
    decision = gate.compare_classifiers(
        sure(champion, 3), sure(candidate, 3, confidence), labels, ["a", "b", "c"], gate.classifier_policy()
    )
    assert line(decision, "accuracy").passed
    assert not decision.promote
    assert not line(decision, metric).passed
    assert f"{metric} may be worse by more than" in decision.reason


def test_no_class_pays_for_the_others_but_one_unlucky_image_is_no_obstacle():
    labels = np.repeat([0, 1], [2000, 38])
    champion, candidate = labels.copy(), labels.copy()
    champion[:200] = 1
    policy = gate.classifier_policy().model_copy(update={"guards": {}})
    for lost, promoted in ((2, True), (12, False)):  # 2 of 38 are more than 5 points, and may be chance
        candidate[-lost:] = 0
        decision = gate.compare_classifiers(sure(champion, 2), sure(candidate, 2), labels, ["many", "few"], policy)
        assert decision.promote is promoted, decision.reason
    assert "recall of few falls by more than 0.05 (-0.3158" in decision.reason
    assert not line(decision, "recall of few").passed


def test_another_main_metric_and_guards_that_are_left_out():
    _, candidate, labels = classifiers(np.random.default_rng(0), 2000)
    policy = gate.classifier_policy().model_copy(
        update={"main": "nll", "guards": {}, "class_recall": None, "floors": {}}
    )
    sharper = candidate**1.2 / (candidate**1.2).sum(axis=1, keepdims=True)  # the same accuracy
    decision = gate.compare_classifiers(candidate, sharper, labels, CLASSES, policy)
    nll = line(decision, "nll")
    assert decision.promote is (nll.high is not None and nll.high < 0)
    assert [found.metric for found in decision.lines if found.rule] == ["nll"]
    assert nll.rule == "below 0"


def test_probabilities_that_are_no_numbers_are_refused():
    champion, candidate, labels = classifiers(np.random.default_rng(0), 50)
    candidate[0] = np.nan
    with pytest.raises(ValueError, match="no numbers"):
        gate.compare_classifiers(champion, candidate, labels, CLASSES, gate.classifier_policy())


def test_of_many_classes_those_that_lose_most_are_shown_and_those_without_images_are_not():
    labels = np.tile(np.arange(60), 30)
    champion, candidate = labels.copy(), labels.copy()
    champion[labels < 20] = np.where(np.arange(600) % 2, labels[labels < 20], 61)
    candidate[labels == 59] = 3
    names = [f"c{k}" for k in range(62)]
    decision = gate.compare_classifiers(
        sure(champion, 62), sure(candidate, 62), labels, names, gate.classifier_policy()
    )
    recalls = [found for found in decision.lines if found.metric.startswith("recall")]
    assert len(recalls) == gate.SHOWN_CLASSES
    assert not line(decision, "recall of c59").passed
    assert not {"recall of c60", "recall of c61"} & {found.metric for found in recalls}


def test_shapes_that_do_not_agree_are_named():
    with pytest.raises(ValueError, match=r"expected probabilities \[4, 3\], got \[4, 2\]"):
        gate.compare_classifiers(None, np.ones((4, 2)), np.zeros(4, int), ["a", "b", "c"], gate.classifier_policy())
    made = gate.Generated(np.zeros((4, 3)), np.ones(4, bool))
    with pytest.raises(ValueError, match=r"expected features \[4, 2\].*got features \[4, 3\]"):
        gate.compare_generators(None, made, np.zeros((5, 2)), gate.generator_policy())


# ---------------------------------------------------------------- generators


def plain_kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    def kernel(x, y):
        return (float(x @ y) / len(x) + 1) ** 3

    def within(points):
        pairs = [kernel(points[i], points[j]) for i in range(len(points)) for j in range(len(points)) if i != j]
        return np.mean(pairs)

    return within(a) + within(b) - 2 * np.mean([kernel(x, y) for x in a for y in b])


def test_the_kernel_distance_and_its_permutations_are_those_of_plain_loops():
    random = np.random.default_rng(0)
    champion, candidate, real = (random.standard_normal((count, 3)) for count in (7, 7, 9))
    assert gate.kernel_distance(candidate, real) == pytest.approx(plain_kernel_distance(candidate, real))
    test = gate.kernel_test(champion, candidate, real, permutations=200, seed=3)
    observed = plain_kernel_distance(candidate, real) - plain_kernel_distance(champion, real)
    assert test.difference == pytest.approx(observed)
    signs = np.random.default_rng(3).integers(0, 2, (200, 7), dtype=np.int8) * 2 - 1
    permuted = []
    for sign in signs:
        kept = (sign == 1)[:, None]
        x, y = np.where(kept, candidate, champion), np.where(kept, champion, candidate)
        permuted.append(plain_kernel_distance(x, real) - plain_kernel_distance(y, real))
    assert test.p == pytest.approx((1 + np.sum(np.array(permuted) <= observed + 1e-12)) / 201)


def test_the_error_of_the_kernel_distances_difference_is_its_spread():
    tests = []
    for case in range(300):
        champion, candidate, real = generators(np.random.default_rng(case), 80, 0.6, 0.3)
        tests.append(gate.kernel_test(champion.features, candidate.features, real, 1, 0))
    spread = np.std([test.difference for test in tests], ddof=1)
    assert np.sqrt(np.mean([test.error**2 for test in tests])) == pytest.approx(spread, rel=0.15)


def test_equal_images_have_no_difference_and_the_largest_p():
    champion, _, real = generators(np.random.default_rng(0), 60, 0.2, 0.2)
    test = gate.kernel_test(champion.features, champion.features, real, 100, 0)
    assert test == (0.0, pytest.approx(0.0), 1.0)
    assert not gate.compare_generators(champion, champion, real, gate.generator_policy()).promote


def test_the_interval_of_two_shares_is_newcombes():
    """Method 10 of Newcombe 1998 for 0.8 and 0.6 of 70 each, from the Wilson intervals of the two, by hand."""
    low, high = gate.newcombe_interval(0.6, 0.8, 70, 1.959964)
    (low_before, high_before), (low_after, high_after) = (
        classification.wilson_interval(share, 70) for share in (0.6, 0.8)
    )
    assert low == pytest.approx(0.2 - np.sqrt((0.8 - low_after) ** 2 + (high_before - 0.6) ** 2))
    assert high == pytest.approx(0.2 + np.sqrt((high_after - 0.8) ** 2 + (0.6 - low_before) ** 2))
    assert 0.04 < low < 0.06
    low, high = gate.newcombe_interval(1.0, 1.0, 50, 1.959964)
    assert low == pytest.approx(-high)
    assert high > 0.05


def test_a_much_better_generator_is_promoted_and_a_guard_stops_it():
    champion, candidate, real = generators(np.random.default_rng(0), 400, 1.5, 0.0)
    policy = gate.generator_policy()
    decision = gate.compare_generators(champion, candidate, real, policy)
    assert decision.promote, decision.reason
    assert decision.reason.startswith("kid is better (-")
    assert line(decision, "kid").candidate == pytest.approx(gate.kernel_distance(candidate.features, real))
    assert line(decision, "fd").rule == ""
    careless = candidate._replace(label_hits=candidate.label_hits & (np.arange(400) % 8 > 0))
    stopped = gate.compare_generators(champion, careless, real, policy)
    assert not stopped.promote
    assert "label_accuracy may be worse by more than 0.05" in stopped.reason


def test_a_first_generator_is_held_to_the_floors():
    _, good, real = generators(np.random.default_rng(0), 200, 0.0, 0.0)
    assert gate.compare_generators(None, good, real, gate.generator_policy()).promote
    blank = gate.Generated(np.full_like(good.features, 9.0), good.label_hits)
    refused = gate.compare_generators(None, blank, real, gate.generator_policy())
    assert refused.reason == ("precision 0.0000 is below the floor of 0.2; recall 0.0000 is below the floor of 0.05")


# ---------------------------------------------------------------- policy and tables


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("cnn", "main", "ece", "`cnn.main` is 'ece': input should be 'accuracy', 'macro_f1' or 'nll'"),
        ("cnn", "levle", 0.05, "`cnn.levle` is not a param"),
        ("cnn", "guards", {"fid": 1}, "fid"),
        ("cnn", "guards", {"nll": 0}, "`cnn.guards.nll` is 0: input should be greater than 0"),
        ("gan", "permutations", 500, "`gan`: permutations must be at least 1 / level"),
        ("gan", "floors", {"precision": 2}, "`gan.floors.precision` is 2"),
    ],
)
def test_a_wrong_policy_is_named(tmp_path, section, key, value, says):
    policy = yaml.safe_load(gate.POLICY.read_text())
    policy[section][key] = value
    if key == "permutations":
        policy[section]["level"] = 0.001
    (tmp_path / "promotion.yaml").write_text(yaml.safe_dump(policy))
    read = gate.classifier_policy if section == "cnn" else gate.generator_policy
    with pytest.raises(UserError) as raised:
        read(tmp_path / "promotion.yaml")
    assert says in str(raised.value)


def test_tables_are_narrow_and_names_of_classes_do_no_harm():
    nasty = ["<b>|@octocat|`x`](http://evil)" + "\n" * 3, "a name that is much longer than a column should be"]
    labels = np.arange(400) % 2
    decision = gate.compare_classifiers(
        sure(np.where(np.arange(400) < 40, 1 - labels, labels), 2, 0.99),
        sure(labels, 2, 0.99),
        labels,
        nasty,
        gate.classifier_policy(),
    )
    table = decision.table()
    assert max(map(len, table)) <= 100
    assert len(table) == 1 + len(decision.lines)
    assert table[0].split() == ["metric", "champion", "candidate", "difference", "interval", "asked", "for", "met"]
    markdown = decision.markdown()
    rows = [row for row in markdown.splitlines() if row.startswith("|")]
    assert len(rows) == 2 + len(decision.lines)
    assert {row.count("|") for row in rows} == {8}
    assert not any(text in markdown for text in ("<b>", "@octocat", "`x`", "]("))
    assert markdown.splitlines()[-1].startswith("**Promote:** accuracy is better (+0.1000, 95% interval +0.0")


def test_columns_in_which_nothing_stands_are_left_out():
    labels = np.arange(50) % 2
    decision = gate.compare_classifiers(None, sure(labels, 2), labels, ["a", "b"], gate.classifier_policy())
    assert decision.table()[0].split() == ["metric", "candidate", "asked", "for", "met"]
    assert gate.Decision("visionloop-cnn", False, "nothing was weighed", []).table() == []


# ---------------------------------------------------------------- how often the shipped policy promotes


@pytest.mark.parametrize("count", [400, 10_000])
def test_an_equal_classifier_is_rarely_promoted(count):
    assert promoted_classifiers(CASES, count) <= 0.05 * CASES


def test_a_classifier_that_is_a_point_better_on_ten_thousand_images_is_promoted():
    champion, candidate, labels = classifiers(np.random.default_rng(0), 400_000, A_POINT)
    gained = classification.accuracy(candidate, labels) - classification.accuracy(champion, labels)
    assert gained == pytest.approx(0.01, abs=0.0006)  # what is simulated is a point indeed
    assert promoted_classifiers(CASES, 10_000, A_POINT) >= 0.95 * CASES


@pytest.mark.parametrize("opposite", [False, True], ids=["equal", "different, equally far"])
def test_a_generator_that_is_not_closer_is_rarely_promoted(opposite):
    assert promoted_generators(CASES, 150, 0.2, 0.2, opposite) <= 0.05 * CASES
