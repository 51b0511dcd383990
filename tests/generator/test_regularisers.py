"""stages.generator.regularisers against closed forms."""

from typing import get_args

import numpy as np
import pytest

from stages.generator.losses import Loss
from stages.generator.regularisers import (
    default_penalty,
    feature_distance,
    gradient_penalty,
    mismatch_loss,
    one_centred_penalty,
    wrong_labels,
    zero_centred_penalty,
)
from stages.training.tensorflow import tf

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(4, 4, 2)).astype(np.float32)
REAL, FAKE = tf.constant(RANDOM.normal(size=(2, 6, 4, 4, 2)).astype(np.float32))
SEED = tf.constant([0, 0], tf.int64)


def linear(inputs, training):
    return tf.reduce_sum(inputs[0] * WEIGHTS, axis=[1, 2, 3]) + tf.cast(inputs[1], tf.float32)


def quadratic(inputs, training):
    """With the image itself as its gradient."""
    return 0.5 * tf.reduce_sum(inputs[0] ** 2, axis=[1, 2, 3])


def test_the_penalty_of_a_linear_discriminator_is_half_its_squared_weights():
    assert float(zero_centred_penalty(linear, REAL, tf.range(6))) == pytest.approx(0.5 * (WEIGHTS**2).sum(), rel=1e-5)


def test_penalties_are_means_over_images():
    images = tf.constant([[[[1.0]]], [[[3.0]]]])
    assert float(zero_centred_penalty(quadratic, images, None)) == pytest.approx(0.5 * (1 + 9) / 2)
    assert float(one_centred_penalty(quadratic, images, None)) == pytest.approx((0 + 2**2) / 2)


def test_the_penalty_around_one_is_that_of_the_norm():
    norm = np.sqrt((WEIGHTS**2).sum())
    assert float(one_centred_penalty(linear, REAL, tf.range(6))) == pytest.approx((norm - 1) ** 2, rel=1e-5)


def test_a_discriminator_that_ignores_the_image_has_a_finite_penalty_and_gradient():
    weight = tf.Variable(0.0)

    def flat(inputs, training):
        return weight * tf.reduce_sum(inputs[0], axis=[1, 2, 3])

    with tf.GradientTape() as tape:
        penalty = one_centred_penalty(flat, REAL, None)
    assert float(penalty) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(float(tape.gradient(penalty, weight)))


def test_wgan_gp_looks_evenly_between_the_images_of_a_pair():
    zeros, ones = tf.zeros([20_000, 1, 1, 1]), tf.ones([20_000, 1, 1, 1])
    seen = []

    def look(inputs, training):
        seen.append(inputs[0].numpy().ravel())
        return quadratic(inputs, training)

    value = float(gradient_penalty("wgan-gp", look, ones, zeros, None, SEED))
    assert np.quantile(seen[0], [0, 0.25, 0.5, 0.75, 1]) == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.01)
    assert value == pytest.approx(1 / 3, abs=0.01)  # the mean of (u - 1)^2 for u drawn evenly
    again = float(gradient_penalty("wgan-gp", look, ones, zeros, None, SEED))
    assert again == value
    assert not np.array_equal(seen[0], (gradient_penalty("wgan-gp", look, ones, zeros, None, SEED + 1), seen[-1])[1])


@pytest.mark.parametrize("loss", ["bce", "lsgan", "hinge", "relativistic"])
def test_the_other_losses_have_r1_and_r2(loss: Loss):
    value = float(gradient_penalty(loss, quadratic, REAL, FAKE, None, SEED))
    squares = [0.5 * float(tf.reduce_sum(images**2)) / 6 for images in (REAL, FAKE)]
    assert value == pytest.approx(sum(squares), rel=1e-5)


def test_the_weight_that_goes_with_a_loss():
    weights = {loss: default_penalty(loss) for loss in get_args(Loss)}
    assert weights == {"bce": 0.3, "lsgan": 0, "wgan": 0, "wgan-gp": 10, "hinge": 0, "relativistic": 0.3}


def test_feature_matching_compares_means():
    real, fake = tf.constant([[0.0, 1.0], [2.0, 1.0]]), tf.constant([[1.0, 4.0], [1.0, 4.0]])
    assert float(feature_distance(real, fake)) == 9
    assert float(feature_distance(real, real[::-1])) == 0


def test_the_mismatch_loss_falls_as_right_labels_win():
    right = tf.constant([0.0, np.log(3.0)])
    assert float(mismatch_loss(right, tf.zeros(2))) == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)
    assert float(mismatch_loss(right + 9, right + 9)) == pytest.approx(np.log(2))


def test_wrong_labels_are_each_of_the_others_equally_often():
    labels = tf.repeat(tf.range(4), 6000)
    wrong = wrong_labels(labels, 4, SEED)
    assert wrong.dtype == labels.dtype
    counts = np.zeros([4, 4], int)
    np.add.at(counts, (labels.numpy(), wrong.numpy()), 1)
    assert (counts.diagonal() == 0).all()
    assert counts[~np.eye(4, dtype=bool)] == pytest.approx(2000, rel=0.1)
    assert np.array_equal(wrong, wrong_labels(labels, 4, SEED))
    assert not np.array_equal(wrong, wrong_labels(labels, 4, SEED + 1))
