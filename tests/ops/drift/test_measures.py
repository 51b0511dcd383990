"""ops.drift.measures against closed forms and SciPy."""

import numpy as np
import pytest
from scipy.stats import chi2, chi2_contingency, kstest

from ops.drift import measures

RANDOM = np.random.default_rng(0)


def test_the_stability_index_of_two_groups():
    new, old = np.array([300_000, 100_000]), np.array([500_000, 500_000])
    expected = 0.25 * np.log(0.75 / 0.5) - 0.25 * np.log(0.25 / 0.5)
    assert measures.stability_index(new, old) == pytest.approx(expected, abs=1e-4)
    assert measures.stability_index(old, new) == pytest.approx(expected, abs=1e-4)
    assert measures.stability_index(old, old) == 0
    assert np.isfinite(measures.stability_index(np.array([0, 5]), np.array([5, 0])))


def test_two_samples_of_one_distribution_have_the_stability_index_that_their_size_brings():
    shares, n, m = np.full(10, 0.1), 400, 900
    found = [
        measures.stability_index(RANDOM.multinomial(n, shares), RANDOM.multinomial(m, shares)) for _ in range(2000)
    ]
    assert np.mean(found) == pytest.approx(9 * (1 / n + 1 / m), rel=0.05)


def test_with_one_class_homogeneity_is_the_chi_square_test():
    new, old = np.array([[12, 30, 18]]), np.array([[40, 41, 60]])
    pearson = chi2_contingency(np.concatenate([new, old]), correction=False).statistic
    n = new.sum() + old.sum()
    assert measures.homogeneity(new, old) == pytest.approx(chi2.sf(pearson * (n - 1) / n, 2))


def test_another_mix_of_classes_is_no_difference_within_them():
    old = np.array([[800, 200], [200, 800]])
    new = np.array([[80, 20], [200, 800]])
    assert measures.homogeneity(new, old) == pytest.approx(1)
    assert measures.homogeneity(new.sum(axis=0)[None], old.sum(axis=0)[None]) < 1e-6
    shift = measures.statistic_shift(new, old)
    assert shift.p == pytest.approx(1)
    assert shift.psi == pytest.approx(0, abs=1e-4)


def test_p_values_of_homogeneity_are_uniform_without_a_difference():
    shares = RANDOM.dirichlet(np.ones(5), 4)

    def draw(sizes):
        return np.stack([RANDOM.multinomial(n, p) for n, p in zip(sizes, shares, strict=True)])

    found = [measures.homogeneity(draw([30, 60, 5, 100]), draw([200, 50, 90, 300])) for _ in range(1000)]
    assert kstest(found, "uniform").pvalue > 0.001


def test_classes_without_old_or_new_images_say_nothing():
    new, old = np.array([[0, 0], [5, 9], [10, 10]]), np.array([[7, 9], [0, 0], [30, 30]])
    assert measures.homogeneity(new, old) == pytest.approx(1)
    assert measures.homogeneity(new[:2], old[:2]) == 1
    assert measures.statistic_shift(new[:2], old[:2]) == (0, 1)


def test_holm():
    assert measures.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert measures.holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert len(measures.holm([])) == 0


def test_groups_of_a_constant_are_below_it_it_and_above():
    old = np.zeros(99, int)
    old[49] = 700
    groups = measures.equal_groups(old)
    assert len({groups[0], groups[49], groups[98]}) == 3
    assert (groups[:49] == groups[0]).all()
    assert (groups[50:] == groups[98]).all()
    new = np.roll(old, 3)
    shift = measures.statistic_shift(new[None], old[None])
    assert shift.psi > 5
    assert shift.p < 1e-9
    assert measures.statistic_shift(old[None], old[None]) == (0, 1)


def test_groups_are_of_equal_weight_and_joined_ones_of_ten_images():
    assert np.bincount(measures.equal_groups(np.ones(100, int))).tolist() == [10] * 10
    assert measures.joined(np.array([3, 8, 12, 0, 4])).tolist() == [0, 0, 1, 1, 1]
    assert measures.joined(np.array([2, 3])).tolist() == [0, 0]
    assert measures.regroup(np.array([[1, 2, 3]]), np.array([0, 1, 1])).tolist() == [[1, 5]]


def test_the_class_prior():
    old = np.array([1000, 1000, 1000])
    assert measures.prior_shift(np.array([100, 100, 100]), old).p == pytest.approx(1)
    shift = measures.prior_shift(np.array([200, 50, 50]), old)
    assert shift.psi > 0.25
    assert shift.p < 1e-9


def kernel(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def test_kernel_distance_is_the_unbiased_discrepancy_averaged_over_the_classes():
    new, old = RANDOM.normal(size=(9, 4)), RANDOM.normal(size=(11, 4))
    new_labels, old_labels = np.array([0] * 6 + [1] * 3), np.array([0] * 4 + [1] * 7)
    expected = []
    for label in (0, 1):
        x, y = new[new_labels == label], old[old_labels == label]
        within = [(kernel(z, z).sum() - np.trace(kernel(z, z))) / (len(z) * (len(z) - 1)) for z in (x, y)]
        expected.append(sum(within) - 2 * kernel(x, y).mean())
    found = measures.kernel_distance_within_classes(new, new_labels, old, old_labels, 100, 0)
    assert found.of_class == pytest.approx(expected, rel=1e-4)
    assert found.value == pytest.approx((6 * expected[0] + 3 * expected[1]) / 9, rel=1e-4)


def test_p_values_of_the_kernel_distance_are_uniform_without_a_difference_whatever_the_mix_of_classes():
    centres = np.array([[0.0] * 8, [3.0] * 8])
    values, p_values = [], []
    for seed in range(200):
        new_labels, old_labels = np.array([0] * 30 + [1] * 5), np.array([0] * 10 + [1] * 40)
        new, old = (centres[labels] + RANDOM.normal(size=(len(labels), 8)) for labels in (new_labels, old_labels))
        found = measures.kernel_distance_within_classes(new, new_labels, old, old_labels, 99, seed)
        values.append(found.value)
        p_values.append(found.p)
    assert kstest(p_values, "uniform").pvalue > 0.001
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200)


def test_a_shift_gets_the_smallest_p_value_and_unknown_classes_are_left_out():
    old, labels = RANDOM.normal(size=(60, 8)), np.arange(60) % 3
    new = old[::-1] + 2
    found = measures.kernel_distance_within_classes(new, labels[::-1], old, labels, 199, 0)
    assert found.p == 1 / 200
    with_unknown = measures.kernel_distance_within_classes(
        np.concatenate([new, 100 + new]), np.concatenate([labels[::-1], labels + 3]), old, labels, 199, 0
    )
    assert with_unknown.value == pytest.approx(found.value)
    nothing = measures.kernel_distance_within_classes(new, labels + 3, old, labels, 199, 0)
    assert (nothing.value, nothing.p) == (0, 1)


def test_the_distance_between_classes_is_the_kernel_distance_of_one_to_the_other():
    features, labels = RANDOM.normal(size=(50, 6)), np.arange(50) // 20
    pairs = [
        measures.kernel_distance_within_classes(
            features[labels == a], np.zeros(np.sum(labels == a), int),
            features[labels == b], np.zeros(np.sum(labels == b), int), 10, 0,
        ).value
        for a, b in ((0, 1), (0, 2), (1, 2))
    ]  # fmt: skip
    assert measures.class_distance(features, labels) == pytest.approx(np.mean(pairs), abs=1e-5)
    assert np.isnan(measures.class_distance(features[:20], labels[:20]))


def test_unusual_images_are_those_far_from_their_class():
    old, old_labels = RANDOM.normal(size=(600, 4)), np.arange(600) % 2
    old[old_labels == 1] += 20
    new, labels = old + RANDOM.normal(size=old.shape), old_labels.copy()
    labels[:30] = 1 - labels[:30]  # in the wrong class
    labels[30:40] = 2  # in one that is not known
    found = measures.unusualness(new, labels, old, old_labels)
    assert set(np.argsort(-found.scores)[:30]) == set(range(30))
    assert found.compared == 590
    assert found.share >= 30 / 590
    assert found.p < 1e-6


def test_without_a_difference_a_hundredth_is_unusual():
    shares, rejected = [], 0
    for _ in range(100):
        old, new = RANDOM.normal(size=(400, 3)), RANDOM.normal(size=(300, 3))
        found = measures.unusualness(new, np.zeros(300, int), old, np.zeros(400, int))
        shares.append(found.share)
        rejected += found.p < 0.05
    assert np.mean(shares) == pytest.approx(0.0125, abs=0.005)  # 5 / 401: the order statistic with 4 of 400 beyond
    assert rejected <= 12
