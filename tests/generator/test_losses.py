"""GAN losses against closed forms."""

from typing import get_args

import numpy as np
import pytest

from stages.generator.losses import Loss, discriminator_loss, generator_loss, share_seen_as_real
from stages.training.tensorflow import keras, tf

LOG_2 = np.log(2)
ZEROS = np.zeros(5, np.float32)


@pytest.mark.parametrize(
    ("loss", "logit", "of_discriminator", "of_generator"),
    [
        ("bce", 0.0, 2 * LOG_2, LOG_2),
        ("lsgan", 0.0, 0.5, 0.5),
        ("lsgan", 3.0, 6.5, 2.0),
        ("wgan", 3.0, 0.0, -3.0),
        ("wgan-gp", 3.0, 0.0, -3.0),
        ("hinge", 0.0, 2.0, 0.0),
        ("hinge", 3.0, 4.0, -3.0),
        ("relativistic", 0.0, LOG_2, LOG_2),
        ("relativistic", 3.0, LOG_2, LOG_2),  # only the difference counts
    ],
)
def test_equal_logits(loss, logit, of_discriminator, of_generator):
    logits = tf.constant(ZEROS + logit)
    assert float(discriminator_loss(loss, logits, logits)) == pytest.approx(of_discriminator, abs=1e-6)
    assert float(generator_loss(loss, logits, logits)) == pytest.approx(of_generator, abs=1e-6)


def test_bce_is_the_cross_entropy():
    real, fake = np.random.default_rng(0).normal(size=(2, 9)).astype(np.float32)
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    expected = float(entropy(np.ones((9, 1)), real[:, None])) + float(entropy(np.zeros((9, 1)), fake[:, None]))
    assert float(discriminator_loss("bce", tf.constant(real), tf.constant(fake))) == pytest.approx(expected, rel=1e-5)


def test_smoothed_bce_is_the_cross_entropy_with_soft_labels():
    real, fake = np.random.default_rng(0).normal(size=(2, 9)).astype(np.float32)
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    expected = float(entropy(np.full((9, 1), 0.9), real[:, None])) + float(entropy(np.zeros((9, 1)), fake[:, None]))
    assert float(discriminator_loss("bce", tf.constant(real), tf.constant(fake), 0.9)) == pytest.approx(expected)


@pytest.mark.parametrize(("loss", "best"), [("bce", np.log(0.9 / 0.1)), ("lsgan", 0.9)])
def test_a_smoothed_label_is_where_the_loss_on_real_images_is_least(loss, best):
    real = tf.Variable(ZEROS + np.float32(best))
    with tf.GradientTape() as tape:
        value = discriminator_loss(loss, real, tf.constant(ZEROS), 0.9)
    np.testing.assert_allclose(tape.gradient(value, real), 0, atol=1e-7)


def test_wgan_is_the_difference_of_the_means_and_lsgan_half_the_squared_errors():
    real, fake = np.random.default_rng(0).normal(size=(2, 9)).astype(np.float32)
    for loss in ("wgan", "wgan-gp"):
        assert float(discriminator_loss(loss, real, fake)) == pytest.approx(fake.mean() - real.mean())
        assert float(generator_loss(loss, real, fake)) == pytest.approx(-fake.mean())
    expected = 0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean()
    assert float(discriminator_loss("lsgan", real, fake)) == pytest.approx(expected)
    assert float(generator_loss("lsgan", real, fake)) == pytest.approx(0.5 * ((fake - 1) ** 2).mean())


@pytest.mark.parametrize("loss", get_args(Loss))
def test_the_discriminator_raises_real_and_lowers_fake_and_the_generator_undoes_it(loss):
    real, fake = tf.Variable(ZEROS + 0.7), tf.Variable(ZEROS + 0.2)
    with tf.GradientTape(persistent=True) as tape:
        of_discriminator = discriminator_loss(loss, real, fake)
        of_generator = generator_loss(loss, real, fake)
    assert (tape.gradient(of_discriminator, real).numpy() < 0).all()
    assert (tape.gradient(of_discriminator, fake).numpy() > 0).all()
    assert (tape.gradient(of_generator, fake).numpy() < 0).all()


@pytest.mark.parametrize("loss", ["bce", "relativistic"])
def test_extreme_logits_stay_finite(loss):
    logits = tf.constant(ZEROS + 1e4)
    for value in (discriminator_loss(loss, -logits, logits), generator_loss(loss, logits, -logits)):
        assert np.isfinite(float(value))


def test_hinge_ignores_what_is_already_told_apart():
    assert float(discriminator_loss("hinge", tf.constant(ZEROS + 2), tf.constant(ZEROS - 2))) == 0


@pytest.mark.parametrize("function", [discriminator_loss, generator_loss])
def test_an_unknown_loss_names_the_known_ones(function):
    with pytest.raises(ValueError, match="loss 'gan', expected one of bce, lsgan, wgan, wgan-gp, hinge, relativistic"):
        function("gan", tf.constant(ZEROS), tf.constant(ZEROS))


@pytest.mark.parametrize(
    ("loss", "share"), [("bce", 0.75), ("hinge", 0.75), ("lsgan", 0.5), ("wgan", 0.25), ("relativistic", 0.25)]
)
def test_the_share_seen_as_real(loss, share):
    real, fake = tf.constant([-1.0, 0.4, 1.0, 2.0]), tf.constant([0.0, 1.0, 2.0, 1.5])
    assert float(share_seen_as_real(loss, real, fake)) == share
