"""The gate for generators: figures, tests and intervals against closed forms and plain loops, each rule of the policy,
and how often the shipped policy promotes candidates of which the truth is known."""

import numpy as np
import pytest

from bench.gate import generators, promoted_generators
from ops.promote.gate.generators import Generated, compare_generators, kernel_test, newcombe_interval
from ops.promote.gate.policy import generator_policy
from stages.evaluation.classifier.scores import wilson_interval
from stages.evaluation.generator.distances import kernel_distance
from tests.conftest import ROOT
from tests.ops.promote.gate.cases import line

CASES = 200


@pytest.fixture(autouse=True)
def shipped_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


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
    assert kernel_distance(candidate, real) == pytest.approx(plain_kernel_distance(candidate, real))
    test = kernel_test(champion, candidate, real, permutations=200, seed=3)
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
        tests.append(kernel_test(champion.features, candidate.features, real, 1, 0))
    spread = np.std([test.difference for test in tests], ddof=1)
    assert np.sqrt(np.mean([test.error**2 for test in tests])) == pytest.approx(spread, rel=0.15)


def test_equal_images_have_no_difference_and_the_largest_p():
    champion, _, real = generators(np.random.default_rng(0), 60, 0.2, 0.2)
    test = kernel_test(champion.features, champion.features, real, 100, 0)
    assert test == (0.0, pytest.approx(0.0), 1.0)
    assert not compare_generators(champion, champion, real, generator_policy()).promote


def test_the_interval_of_two_shares_is_newcombes():
    """Method 10 of Newcombe 1998 for 0.8 and 0.6 of 70 each, from the Wilson intervals of the two, by hand."""
    low, high = newcombe_interval(0.6, 0.8, 70, 1.959964)
    (low_before, high_before), (low_after, high_after) = (wilson_interval(share, 70) for share in (0.6, 0.8))
    assert low == pytest.approx(0.2 - np.sqrt((0.8 - low_after) ** 2 + (high_before - 0.6) ** 2))
    assert high == pytest.approx(0.2 + np.sqrt((high_after - 0.8) ** 2 + (0.6 - low_before) ** 2))
    assert 0.04 < low < 0.06
    low, high = newcombe_interval(1.0, 1.0, 50, 1.959964)
    assert low == pytest.approx(-high)
    assert high > 0.05


def test_a_much_better_generator_is_promoted_and_a_guard_stops_it():
    champion, candidate, real = generators(np.random.default_rng(0), 400, 1.5, 0.0)
    policy = generator_policy()
    decision = compare_generators(champion, candidate, real, policy)
    assert decision.promote, decision.reason
    assert decision.reason.startswith("kid is better (-")
    assert line(decision, "kid").candidate == pytest.approx(kernel_distance(candidate.features, real))
    assert line(decision, "fd").rule == ""
    careless = candidate._replace(label_hits=candidate.label_hits & (np.arange(400) % 8 > 0))
    stopped = compare_generators(champion, careless, real, policy)
    assert not stopped.promote
    assert "label_accuracy may be worse by more than 0.05" in stopped.reason


def test_a_first_generator_is_held_to_the_floors():
    _, good, real = generators(np.random.default_rng(0), 200, 0.0, 0.0)
    assert compare_generators(None, good, real, generator_policy()).promote
    blank = Generated(np.full_like(good.features, 9.0), good.label_hits)
    refused = compare_generators(None, blank, real, generator_policy())
    assert refused.reason == ("precision 0.0000 is below the floor of 0.2; recall 0.0000 is below the floor of 0.05")


def test_shapes_that_do_not_agree_are_named():
    made = Generated(np.zeros((4, 3)), np.ones(4, bool))
    with pytest.raises(ValueError, match=r"expected features \[4, 2\].*got features \[4, 3\]"):
        compare_generators(None, made, np.zeros((5, 2)), generator_policy())


# ---------------------------------------------------------------- how often the shipped policy promotes


@pytest.mark.parametrize("opposite", [False, True], ids=["equal", "different, equally far"])
def test_a_generator_that_is_not_closer_is_rarely_promoted(opposite):
    assert promoted_generators(CASES, 150, 0.2, 0.2, opposite) <= 0.05 * CASES
