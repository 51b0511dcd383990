import numpy as np
import pytest

from stages.lib.gan_losses import discriminator_loss, generator_loss, gradient_penalty
from stages.lib.runtime import keras, tf

LOG_2 = np.log(2)
ZEROS = np.zeros(5, np.float32)


@pytest.mark.parametrize(
    ("loss", "logit", "of_discriminator", "of_generator"),
    [
        ("bce", 0.0, 2 * LOG_2, LOG_2),
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


@pytest.mark.parametrize("loss", ["bce", "hinge", "relativistic"])
def test_the_discriminator_raises_real_and_lowers_fake_and_the_generator_undoes_it(loss):
    real, fake = tf.Variable(ZEROS + 0.3), tf.Variable(ZEROS - 0.2)
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
    with pytest.raises(ValueError, match="loss 'wgan', expected one of bce, hinge, relativistic"):
        function("wgan", tf.constant(ZEROS), tf.constant(ZEROS))


def test_the_penalty_of_a_linear_discriminator_is_half_its_squared_weights():
    random = np.random.default_rng(0)
    weights = tf.constant(random.normal(size=(4, 4, 2)).astype(np.float32))
    images = tf.constant(random.normal(size=(6, 4, 4, 2)).astype(np.float32))

    def linear(inputs, training):
        return tf.reduce_sum(inputs[0] * weights, axis=[1, 2, 3]) + tf.cast(inputs[1], tf.float32)

    penalty = float(gradient_penalty(linear, images, tf.range(6)))
    assert penalty == pytest.approx(0.5 * float(tf.reduce_sum(weights**2)), rel=1e-5)


def test_the_penalty_is_a_mean_over_images():
    images = tf.constant([[[[1.0]]], [[[3.0]]]])

    def quadratic(inputs, training):  # with gradient x
        return 0.5 * tf.reduce_sum(inputs[0] ** 2, axis=[1, 2, 3])

    assert float(gradient_penalty(quadratic, images, None)) == pytest.approx(0.5 * (1 + 9) / 2)
