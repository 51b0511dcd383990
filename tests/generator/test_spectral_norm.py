"""Spectral normalisation against the largest singular value."""

import numpy as np
import pytest

from stages.generator.spectral_norm import SpectralNormalization
from stages.training.tensorflow import compute_in, keras, tf

X = np.random.default_rng(0).standard_normal((5, 6, 6, 3)).astype(np.float32)


def settle(layer, x, calls: int = 100):
    for _ in range(calls):
        layer(x, training=True)


def largest_gain(layer) -> float:
    kernel = layer.kernel.numpy()
    return float(np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0])


@pytest.mark.parametrize(
    ("inner", "x"),
    [
        (lambda: keras.layers.Dense(4, use_bias=False), X[:, 0, 0]),
        (lambda: keras.layers.Conv2D(7, 3, padding="same", use_bias=False), X),
        (lambda: keras.layers.Embedding(6, 4), np.array([0, 3, 5], np.int32)),
    ],
)
def test_the_output_is_that_of_weights_whose_largest_singular_value_is_1(inner, x):
    layer = SpectralNormalization(inner())
    settle(layer, x)
    before = layer.kernel.numpy()
    np.testing.assert_allclose(layer(x), layer.layer(x) / largest_gain(layer), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(layer.kernel.numpy(), before)  # the weights themselves stay as they are


def test_the_gradient_passes_through_the_norm():
    layer = SpectralNormalization(keras.layers.Dense(4, use_bias=False))
    settle(layer, X[:, 0, 0])
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(X[:, 0, 0]) ** 2)
    gradient = tape.gradient(value, layer.kernel.value)
    # The output does not depend on the length of the weights, so the gradient is at right angles to them.
    assert float(tf.reduce_sum(gradient * layer.kernel.value)) == pytest.approx(0, abs=1e-3 * float(tf.norm(gradient)))


def test_only_training_calls_look_for_the_norm():
    layer = SpectralNormalization(keras.layers.Dense(4))
    layer(X[:, 0, 0])
    start = layer.vector_u.numpy()
    layer(X[:, 0, 0])
    np.testing.assert_array_equal(layer.vector_u.numpy(), start)
    layer(X[:, 0, 0], training=True)
    assert not np.array_equal(layer.vector_u.numpy(), start)
    assert any(variable is layer.vector_u for variable in layer.non_trainable_variables)


def test_bfloat16_measures_the_norm_in_float32():
    with compute_in("mixed_bfloat16"):
        inputs = keras.Input([3])
        layer = SpectralNormalization(keras.layers.Dense(4, use_bias=False))
        model = keras.Model(inputs, layer(inputs))
    settle(model, X[:, 0, 0])
    assert model(X[:, 0, 0]).dtype == "bfloat16"
    assert layer.kernel.dtype == layer.vector_u.dtype == "float32"
    plain = X[:, 0, 0] @ layer.kernel.numpy()
    np.testing.assert_allclose(tf.cast(model(X[:, 0, 0]), "float32"), plain / largest_gain(layer), rtol=0.03, atol=0.03)
    # In bfloat16 the vector would have only 8 bits.
    assert not np.array_equal(layer.vector_u.numpy(), tf.cast(tf.cast(layer.vector_u.value, "bfloat16"), "float32"))
