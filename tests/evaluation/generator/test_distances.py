"""stages.evaluation.generator.distances against closed forms, plain loops, and prdc where it is installed."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from stages.evaluation.generator import distances as generative_metrics
from stages.evaluation.generator.distances import (
    class_frechet_distances,
    density_and_coverage,
    expected_coverage,
    frechet_at_infinity,
    inside_manifold,
    kernel_distance,
    kernel_distance_over_subsets,
    precision_and_recall,
)
from stages.generator.distances import frechet_distance

RANDOM = np.random.default_rng(0)
A, B = RANDOM.normal(0, 1, (300, 5)), RANDOM.normal(0.3, 1.5, (200, 5)) @ RANDOM.normal(0, 1, (5, 5))


def test_frechet_distance_of_a_set_with_itself_is_0():
    assert frechet_distance(A, A) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(A, A[::-1]) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_shifted_sets_is_the_squared_shift():
    assert frechet_distance(A, A + np.array([3, 4, 0, 0, 0])) == pytest.approx(25)


def test_frechet_distance_of_scaled_sets():
    trace = np.trace(np.cov(A, rowvar=False))
    assert frechet_distance(A - A.mean(0), 3 * (A - A.mean(0))) == pytest.approx(4 * trace)


def test_frechet_distance_agrees_with_the_matrix_square_root():
    a, b = np.cov(A, rowvar=False), np.cov(B, rowvar=False)
    expected = np.sum((A.mean(0) - B.mean(0)) ** 2) + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(A, B) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(B, A) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_stands_fewer_images_than_features_and_dead_features():
    few = RANDOM.normal(size=(4, 30)) * (np.arange(30) < 20)
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(frechet_distance(few, np.zeros((7, 30))))


@pytest.mark.parametrize(("features", "count"), [(8, 200), (16, 400)])
def test_the_distance_of_small_samples_is_biased_by_what_the_theory_says_and_at_infinity_it_is_not(features, count):
    """Two standard normal sets, one shifted by 0.3, are 0.09 apart. n images of each add 2 d / n through the means, and
    (d^2 + d) / (2 n) through the covariances: the Bures distance of I + A and I + B is |A - B|^2 / 4 to second order,
    and n E|A|^2 = d^2 + d."""
    found = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        a, b = random.normal(size=(2, count, features))
        b[:, 0] += 0.3
        found.append((frechet_distance(a, b), frechet_at_infinity(a, b, sizes=8, draws=4, seed=seed)))
    (at_count, at_infinity), errors = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    bias = (2 * features + (features**2 + features) / 2) / count
    assert bias > 6 * errors[0]
    assert at_count - 0.09 == pytest.approx(bias, abs=4 * errors[0] + 0.05 * bias)  # the next order is of this size
    assert at_infinity == pytest.approx(0.09, abs=4 * errors[1])


def test_at_infinity_a_set_is_no_distance_from_its_own_distribution_and_the_seed_decides():
    values = [
        frechet_at_infinity(*np.random.default_rng(s).normal(size=(2, 300, 8)), sizes=6, draws=3, seed=s)
        for s in range(30)
    ]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    options = {"sizes": 4, "draws": 2}
    assert frechet_at_infinity(A, B, **options, seed=1) == frechet_at_infinity(A, B, **options, seed=1)
    assert frechet_at_infinity(A, B, **options, seed=1) != frechet_at_infinity(A, B, **options, seed=2)


@pytest.mark.parametrize("count", [4, 5, 10])
def test_at_infinity_stands_very_few_images(count):
    assert np.isfinite(frechet_at_infinity(A[:count], B[:count], sizes=8, draws=2, seed=0))


def test_each_class_has_a_distance_of_its_own():
    labels = np.arange(300) % 3
    moved = A + np.array([0, 2, 5])[labels, None] * np.eye(5)[0]
    found = class_frechet_distances(moved, labels, A, labels, np.array([100, 60, 1]))
    assert found[:2] == pytest.approx([0, 4], abs=1e-6)
    assert np.isnan(found[2])


def test_kernel_distance_of_all_images_equals_a_loop_over_pairs():
    def kernel(p, q):
        return (p @ q / 5 + 1) ** 3

    x, y = A[:7], B[:9]
    within = [np.mean([kernel(p, q) for i, p in enumerate(z) for j, q in enumerate(z) if i != j]) for z in (x, y)]
    expected = sum(within) - 2 * np.mean([kernel(p, q) for p in x for q in y])
    assert kernel_distance(x, y) == pytest.approx(expected)


def test_kernel_distance_over_subsets_equals_a_loop_over_pairs():
    def kernel(p, q):
        return (p @ q / 5 + 1) ** 3

    random, pairs = np.random.default_rng(3), [(i, j) for i in range(20) for j in range(20) if i != j]
    expected = []
    for _ in range(2):
        x = A[random.choice(len(A), 20, replace=False)]
        y = B[random.choice(len(B), 20, replace=False)]
        within = np.mean([kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs])
        expected.append(within - 2 * np.mean([kernel(p, q) for p in x for q in y]))
    value, error = kernel_distance_over_subsets(A, B, subsets=2, subset_size=20, seed=3)
    assert value == pytest.approx(np.mean(expected))
    assert error == pytest.approx(abs(expected[0] - expected[1]) / np.sqrt(2) * np.sqrt(20 / 180))


def test_kernel_distance_is_unbiased():
    values = []
    for seed in range(200):
        x, y = np.random.default_rng(seed).normal(size=(2, 40, 4))
        values.append(kernel_distance_over_subsets(x, y, subsets=5, subset_size=20, seed=seed)[0])
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_kernel_distance_tells_sets_apart_and_says_how_sure_it_is():
    value, error = kernel_distance_over_subsets(A, A[:200] + 1, subsets=50, subset_size=100, seed=0)
    assert value > 5 * error > 0  # A has 300 images, the other set 200
    assert kernel_distance_over_subsets(A, B, subsets=5, subset_size=50, seed=1) == kernel_distance_over_subsets(
        A, B, subsets=5, subset_size=50, seed=1
    )


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_error_of_the_kernel_distance_is_that_of_the_images_whatever_the_subsets(shift):
    found = []
    for seed in range(60):
        x, y = np.random.default_rng(seed).normal(size=(2, 100, 8))
        few, many = (
            kernel_distance_over_subsets(x, y + shift, subsets=k, subset_size=25, seed=seed) for k in (50, 200)
        )
        assert many[1] == pytest.approx(few[1], rel=0.5)
        found.append(many)
    values, errors = np.array(found).T
    assert np.std(values) < 1.2 * errors.mean()  # not too small, and where the sets differ not much too large
    assert shift == 0.0 or errors.mean() < 1.5 * np.std(values)
    assert np.mean(abs(values - values.mean()) < 2 * errors) > 0.9


@pytest.mark.parametrize("count", [2, 3, 4])
def test_kernel_distance_of_very_few_images_is_finite(count):
    assert np.isfinite(kernel_distance_over_subsets(A[:count], B[:count], subsets=5, subset_size=100, seed=0)).all()


def test_precision_and_recall():
    assert precision_and_recall(A, A) == (1, 1)
    assert precision_and_recall(A, A + 100) == (0, 0)
    # Generated images of one of two modes: each is fine, and half of the real ones cannot be made.
    two_modes = np.concatenate([A, A + 100])
    assert precision_and_recall(two_modes, A) == (1, 0.5)
    assert precision_and_recall(A, two_modes) == (0.5, 1)


def test_precision_by_hand():
    real = np.array([[0.0], [1.0], [2.0], [10.0]])  # with 1 neighbour the radii are 1, 1, 1, 8
    fake = np.array([[-1.5], [-0.5], [3.5], [17.0], [19.0]])
    assert precision_and_recall(real, fake, neighbours=1)[0] == pytest.approx(3 / 5)


def test_precision_and_recall_are_shares_of_the_images_inside():
    inside = inside_manifold(A, B)
    assert inside.shape == (300,)
    assert precision_and_recall(B, A)[0] == inside.mean()


def test_density_and_coverage_by_hand():
    real = np.array([[0.0], [1.0], [2.0], [10.0]])  # with 1 neighbour the radii are 1, 1, 1, 8
    fake = np.array([[-1.5], [-0.5], [3.5], [17.0], [19.0]])  # the 2nd to 4th are in one ball each, of 0, 10 and 10
    assert density_and_coverage(real, fake, neighbours=1) == pytest.approx((3 / 5, 2 / 4))


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_density_and_coverage_of_one_distribution_are_those_of_the_theory_whatever_it_is(kind):
    found = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        real, fake = (getattr(random, kind)(size=(count, 3)) for count in (200, 150))
        found.append(density_and_coverage(real, fake))
    density, coverage = np.mean(found, axis=0)
    errors = np.std(found, axis=0) / np.sqrt(len(found))
    assert density == pytest.approx(1, abs=4 * errors[0])
    assert coverage == pytest.approx(expected_coverage(200, 150), abs=4 * errors[1])
    assert errors.max() < 0.02


def test_the_expected_coverage_of_many_images_is_that_of_coin_tosses():
    assert expected_coverage(10**6, 10**6) == pytest.approx(1 - 0.5**5, abs=1e-5)
    assert expected_coverage(2, 1, 1) == pytest.approx(1 / 2)  # the nearer of the other real one and the generated one


def test_an_outlier_does_not_impress_density_as_it_does_precision():
    real, fake = RANDOM.uniform(0, 1, (200, 2)), RANDOM.uniform(3, 4, (100, 2))
    with_outlier = np.concatenate([real, [[30.0, 30.0]]])  # its ball reaches the rest, and past the generated images
    assert precision_and_recall(with_outlier, fake)[0] == 1
    assert density_and_coverage(with_outlier, fake)[0] == pytest.approx(1 / 5)
    assert density_and_coverage(real, fake) == (0, 0)


def test_uniform_sets_of_which_one_fills_half_of_the_other():
    """All of what the half makes is real, twice as dense as it should be, and half of the real images are covered."""
    random = np.random.default_rng(3)
    real, fake = random.uniform(0, 1, (2000, 2)), random.uniform(0, 1, (2000, 2)) * [0.5, 1]
    density, coverage = density_and_coverage(real, fake)
    assert density == pytest.approx(1, abs=0.05)
    assert coverage == pytest.approx((1 - (1 / 3) ** 5) / 2, abs=0.03)  # of three neighbours there, two are generated


@pytest.mark.parametrize(("count", "neighbours"), [(300, 5), (300, 3), (40, 1)])
def test_agrees_with_prdc(count, neighbours, capsys):
    prdc = pytest.importorskip("prdc", reason="the independent implementation is not installed")
    random = np.random.default_rng(1)
    real, fake = random.normal(0, 1, (count, 6)), random.normal(0.2, 0.8, (count - 7, 6))
    expected = prdc.compute_prdc(real, fake, neighbours)
    assert precision_and_recall(real, fake, neighbours) == pytest.approx((expected["precision"], expected["recall"]))
    found = density_and_coverage(real, fake, neighbours)
    assert found == pytest.approx((expected["density"], expected["coverage"]))


def test_figures_do_not_depend_on_the_rows_at_a_time(monkeypatch):
    whole = precision_and_recall(A, B), density_and_coverage(A, B)
    monkeypatch.setattr(generative_metrics, "ROWS_AT_A_TIME", 7)
    assert (precision_and_recall(A, B), density_and_coverage(A, B)) == whole
