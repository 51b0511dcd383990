"""The fused batch norm agrees with Keras' own, in training, in what it remembers, and in inference."""

import numpy as np
import pytest

from stages.classifier.base.networks import build_classifier
from stages.training.batch_norm import with_fused_batch_norm
from stages.training.tensorflow import compute_in, keras, tf


def one_norm(dtype: str = "float32", **options):
    with compute_in(dtype):
        inputs = keras.Input([6, 6, 4])
        model = keras.Model(inputs, keras.layers.BatchNormalization(momentum=0.8, **options)(inputs))
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.5, 2, weight.shape) for weight in model.weights])
    return model


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(1).normal(3, 2, (5, 6, 6, 4)).astype(np.float32)


def train_once(model, images: np.ndarray):
    """Outputs, gradients, and the weights and statistics afterwards."""
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 3)
    return outputs, tape.gradient(loss, model.trainable_variables), model.get_weights()


@pytest.mark.parametrize("options", [{}, {"center": False, "scale": False}], ids=["affine", "plain"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 0.02)])
def test_a_training_step_is_that_of_keras(images: np.ndarray, dtype: str, tolerance: float, options: dict) -> None:
    model = one_norm(dtype, **options)
    fused = with_fused_batch_norm(model)
    assert type(fused.layers[1]) is not type(model.layers[1])
    for own, keras_own in zip(train_once(fused, images), train_once(model, images), strict=True):
        for value, expected in zip(own, keras_own, strict=True):
            value, expected = np.asarray(tf.cast(value, tf.float32)), np.asarray(tf.cast(expected, tf.float32))
            np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


def test_inference_is_that_of_keras(images: np.ndarray) -> None:
    model = one_norm()
    np.testing.assert_array_equal(with_fused_batch_norm(model)(images, training=False), model(images, training=False))


def test_frozen_statistics_stay(images: np.ndarray) -> None:
    model = one_norm()
    model.trainable = False
    fused = with_fused_batch_norm(model)
    fused.trainable = False
    before = fused.get_weights()
    fused(images, training=True)
    for value, expected in zip(fused.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_the_weights_fit_both_ways_and_the_policy_stays() -> None:
    model = build_classifier("compact", (16, 16, 1), 3, 8, "mixed_bfloat16")
    fused = with_fused_batch_norm(model)
    assert fused.dtype_policy.name == "mixed_bfloat16"
    assert [layer.name for layer in fused.layers] == [layer.name for layer in model.layers]
    for value, expected in zip(fused.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_norms_inside_a_network_within_the_network_are_fused(images: np.ndarray) -> None:
    inside = one_norm()
    inputs = keras.Input([6, 6, 4])
    fused = with_fused_batch_norm(keras.Model(inputs, inside(inputs)))
    assert type(fused.layers[1].layers[1]).__name__ == "FusedBatchNormalization"


def test_a_norm_of_vectors_is_left_to_keras() -> None:
    inputs = keras.Input([4])
    model = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
    vectors = np.random.default_rng(2).normal(3, 2, (16, 4)).astype(np.float32)
    fused = with_fused_batch_norm(model)
    for own, expected in zip(train_once(fused, vectors)[2], train_once(model, vectors)[2], strict=True):
        np.testing.assert_array_equal(own, expected)


def test_a_network_without_norms_is_returned_as_it_is() -> None:
    model = build_classifier("article", (16, 16, 1), 3, 8)
    assert with_fused_batch_norm(model) is model
