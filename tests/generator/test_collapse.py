"""Warnings of a generator that collapses or diverges."""

import numpy as np
import pytest

from stages.generator.collapse import diversity, warning

RANDOM = np.random.default_rng(0)
LABELS = np.repeat(np.arange(3), 40)
REAL = RANDOM.standard_normal((120, 5)) + 10 * LABELS[:, None]


def test_real_images_are_as_diverse_as_themselves_and_distances_scale():
    assert diversity(REAL, REAL, LABELS) == 1
    assert diversity(7 + 0.3 * REAL, REAL, LABELS) == pytest.approx(0.3)
    other = RANDOM.standard_normal((120, 5)) + 10 * LABELS[:, None]
    assert diversity(other, REAL, LABELS) == pytest.approx(1, abs=0.05)


def test_one_image_per_class_is_no_diversity_however_far_the_classes_are_apart():
    collapsed = 10.0 * LABELS[:, None] + np.zeros((120, 5))
    assert diversity(collapsed, REAL, LABELS) == 0
    assert diversity(collapsed, REAL, np.zeros(120)) > 0.9


def test_classes_of_one_image_do_not_count_unless_all_are():
    labels = np.array([0, 0, 1])
    real, fake = np.array([[0.0], [1.0], [9.0]]), np.array([[0.0], [0.5], [7.0]])
    assert diversity(fake, real, labels) == 0.5
    assert diversity(real, real, np.arange(3)) == 1


def test_equal_real_images_ask_for_no_diversity():
    assert diversity(REAL, np.zeros_like(REAL), LABELS) == 1


def history(*rows: tuple[float, float]) -> list[dict[str, float]]:
    return [{"step": 100.0 * (k + 1), "val_fd": fd, "val_diversity": d} for k, (fd, d) in enumerate(rows)]


@pytest.mark.parametrize(
    "rows",
    [
        [(300, 0.0)],  # an untrained generator may make equal images
        [(300, 0.0), (80, 0.5), (9, 0.9), (12, 0.8)],
        [(20, 1.1), (9, 0.9), (26, 0.9)],
    ],
)
def test_a_training_that_goes_well_is_not_warned_of(rows):
    assert warning(history(*rows), 1000) == ""


def test_collapse_is_named_with_what_to_try():
    text = warning(history((30, 0.9), (40, 0.05)), 1000)
    assert "makes nearly the same image over and over (at step 200 " in text
    assert " 5% as much as real ones)" in text
    assert "gan.spectral_norm=always" in text
    never = history(*[(300, 0.0)] * 6)
    assert warning(never[:5], 1000) == ""
    assert "over and over" in warning(never, 1000)


def test_divergence_is_named_with_both_distances():
    text = warning(history((12, 0.9), (9.5, 0.9), (31, 0.9)), 1000)
    assert text.startswith("the generator gets worse (Frechet distance 31 at step 300, 9.5 at step 200): try ")
    assert "gan.diff_augment=[translation,cutout]" in text
