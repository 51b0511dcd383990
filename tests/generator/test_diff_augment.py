"""Differentiable augmentation: statistics, gradients and its adaptive share."""

import numpy as np
import pytest

from stages.generator.diff_augment import ADAPTATION_SHARE, Augmentation, DiffAugment
from stages.training.tensorflow import tf

SEED = tf.constant([3, 5], tf.int64)
IMAGES = tf.constant(np.random.default_rng(0).uniform(0.1, 1, (400, 16, 16, 3)).astype(np.float32))


def changed(kind: Augmentation, images=IMAGES, seed=SEED) -> np.ndarray:
    return DiffAugment([kind])(images, seed).numpy()


@pytest.mark.parametrize("kind", ["colour", "translation", "cutout"])
def test_what_is_drawn_is_a_function_of_the_seed_and_differs_between_images(kind):
    images = tf.tile(IMAGES[:1], [50, 1, 1, 1])
    first = changed(kind, images)
    np.testing.assert_array_equal(first, changed(kind, images))
    assert not np.array_equal(first, changed(kind, images, SEED + 1))
    assert len({image.tobytes() for image in first}) > 20


def test_nothing_to_do_returns_the_images():
    assert DiffAugment([])(IMAGES, SEED) is IMAGES


def test_translation_moves_by_up_to_an_eighth_in_each_direction_and_fills_with_0():
    moved, seen = changed("translation"), set()
    for image, original in zip(moved, IMAGES.numpy(), strict=True):
        rows, columns = (np.flatnonzero(image[..., 0].any(axis=axis)) for axis in (1, 0))
        down = rows[0] if rows[0] else rows[-1] - 15
        right = columns[0] if columns[0] else columns[-1] - 15
        expected = np.roll(original, (down, right), (0, 1))[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_array_equal(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], expected)
        seen.add((int(down), int(right)))
    assert seen == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_cutout_blanks_a_square_of_half_the_side():
    cut = changed("cutout")
    blank = (cut == 0).all(axis=3)
    np.testing.assert_array_equal(cut, np.where(blank[..., None], 0, IMAGES))
    heights, widths = blank.any(axis=2).sum(axis=1), blank.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(blank.sum(axis=(1, 2)), heights * widths)
    assert (heights.min(), heights.max(), widths.min(), widths.max()) == (4, 8, 4, 8)  # less where the rim cuts it off


def test_colour_changes_brightness_saturation_and_contrast():
    recoloured = changed("colour")
    shift = recoloured.mean(axis=(1, 2, 3)) - IMAGES.numpy().mean(axis=(1, 2, 3))
    assert (shift >= -0.5).all()
    assert (shift <= 0.5).all()
    assert shift.std() == pytest.approx(1 / np.sqrt(12), rel=0.1)
    both = recoloured, IMAGES.numpy()
    grey = [images.mean(axis=3) for images in both]
    contrast = grey[0].std(axis=(1, 2)) / grey[1].std(axis=(1, 2))
    assert (contrast.min(), contrast.max()) == pytest.approx((0.5, 1.5), abs=0.02)
    spread = [(images - images.mean(axis=3, keepdims=True)).std(axis=(1, 2, 3)) for images in both]
    saturation = spread[0] / spread[1] / contrast
    assert (saturation.min(), saturation.max()) == pytest.approx((0, 2), abs=0.03)


@pytest.mark.parametrize("kind", ["colour", "translation", "cutout"])
def test_gradients_pass(kind):
    images = tf.Variable(IMAGES[:4])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(DiffAugment([kind])(tf.convert_to_tensor(images), SEED) ** 2)
    gradient = tape.gradient(total, images).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient != 0).mean() > 0.4


def test_the_probability_starts_at_0_and_follows_the_target():
    steps = 200
    augment = DiffAugment(["cutout"], target=0.8, steps=steps)
    np.testing.assert_array_equal(augment(IMAGES, SEED), IMAGES)
    for _ in range(round(ADAPTATION_SHARE * steps / 2)):
        augment.adapt(tf.constant(0.9))
    assert float(augment.probability.value) == pytest.approx(0.5)
    share = (augment(IMAGES, SEED).numpy() == 0).any(axis=(1, 2, 3)).mean()
    assert share == pytest.approx(0.5, abs=0.1)
    for _ in range(steps):
        augment.adapt(tf.constant(1.0))
    assert float(augment.probability.value) == 1
    for _ in range(steps):
        augment.adapt(tf.constant(0.7))
    assert float(augment.probability.value) == 0


def test_without_a_target_there_is_no_state():
    augment = DiffAugment(["cutout"])
    augment.adapt(tf.constant(0.0))
    assert augment.variables == []
    assert (changed("cutout") == 0).any(axis=(1, 2, 3)).all()
