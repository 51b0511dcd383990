import numpy as np
import pytest
from scipy.linalg import sqrtm

from stages.lib import generative_metrics
from stages.lib.generative_metrics import frechet_distance, kernel_distance, nearest, precision_and_recall

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


def test_kernel_distance_equals_a_loop_over_pairs():
    def kernel(p, q):
        return (p @ q / 5 + 1) ** 3

    random, pairs = np.random.default_rng(3), [(i, j) for i in range(20) for j in range(20) if i != j]
    expected = []
    for _ in range(2):
        x = A[random.choice(len(A), 20, replace=False)]
        y = B[random.choice(len(B), 20, replace=False)]
        within = np.mean([kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in pairs])
        expected.append(within - 2 * np.mean([kernel(p, q) for p in x for q in y]))
    value, error = kernel_distance(A, B, subsets=2, subset_size=20, seed=3)
    assert value == pytest.approx(np.mean(expected))
    assert error == pytest.approx(abs(expected[0] - expected[1]) / np.sqrt(2) * np.sqrt(20 / 180))


def test_kernel_distance_is_unbiased():
    values = []
    for seed in range(200):
        x, y = np.random.default_rng(seed).normal(size=(2, 40, 4))
        values.append(kernel_distance(x, y, subsets=5, subset_size=20, seed=seed)[0])
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


def test_kernel_distance_tells_sets_apart_and_says_how_sure_it_is():
    value, error = kernel_distance(A, A[:200] + 1, subsets=50, subset_size=100, seed=0)
    assert value > 5 * error > 0  # A has 300 images, the other set 200
    assert kernel_distance(A, B, subsets=5, subset_size=50, seed=1) == kernel_distance(
        A, B, subsets=5, subset_size=50, seed=1
    )


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_error_of_the_kernel_distance_is_that_of_the_images_whatever_the_subsets(shift):
    found = []
    for seed in range(60):
        x, y = np.random.default_rng(seed).normal(size=(2, 100, 8))
        few, many = (kernel_distance(x, y + shift, subsets=k, subset_size=25, seed=seed) for k in (50, 200))
        assert many[1] == pytest.approx(few[1], rel=0.5)
        found.append(many)
    values, errors = np.array(found).T
    assert np.std(values) < 1.2 * errors.mean()  # not too small, and where the sets differ not much too large
    assert shift == 0.0 or errors.mean() < 1.5 * np.std(values)
    assert np.mean(abs(values - values.mean()) < 2 * errors) > 0.9


@pytest.mark.parametrize("count", [2, 3, 4])
def test_kernel_distance_of_very_few_images_is_finite(count):
    assert np.isfinite(kernel_distance(A[:count], B[:count], subsets=5, subset_size=100, seed=0)).all()


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


def test_figures_do_not_depend_on_the_rows_at_a_time(monkeypatch):
    whole = precision_and_recall(A, B)
    index, distance = nearest(A, B)
    monkeypatch.setattr(generative_metrics, "ROWS_AT_A_TIME", 7)
    assert precision_and_recall(A, B) == whole
    np.testing.assert_array_equal(nearest(A, B)[0], index)
    np.testing.assert_array_equal(np.linalg.norm(A - B[index], axis=1).round(9), distance.round(9))


def test_nearest():
    index, distance = nearest(np.array([[0.0, 0.0], [9.0, 9.0]]), np.array([[9.0, 8.0], [3.0, 4.0]]))
    assert index.tolist() == [1, 0]
    assert distance.tolist() == [5.0, 1.0]
