"""stages.classifier.base.step: what one step of the classifier's training does."""

from typing import Any

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from stages.classifier.base.networks import build_classifier
from stages.classifier.base.step import ClassifierStep, balanced_weights
from stages.training.loop import train
from stages.training.tensorflow import compute_in, keras, seed_everything, tf

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
LABELS = RANDOM.integers(0, 3, 64).astype(np.int32)


def classifier_step(model=None, **options) -> ClassifierStep:
    defaults: dict[str, Any] = {
        "steps": 60,
        "lr": 0.02,
        "schedule": "constant",
        "weight_decay": 0.0,
        "beta_2": 0.99,
        "label_smoothing": 0.0,
    }
    seed_everything(0)
    model = model or build_classifier("compact", (8, 8, 1), 3, 8)
    return ClassifierStep(model, **(defaults | {"average": 0.0} | options))


def test_learns_64_random_images_by_heart():
    step = classifier_step(schedule="one_cycle", average=0.5)
    run, images, labels = tf.function(step), tf.constant(IMAGES), tf.constant(LABELS)
    losses = [float(run(images, labels, tf.constant(i, tf.int64))[0]) for i in range(60)]
    loss, accuracy = run(images, labels, tf.constant(59, tf.int64))
    assert losses[0] > np.log(3) * 0.8
    assert float(loss) < 0.1
    assert float(accuracy) == 1
    predicted = step.averaged.model(IMAGES).numpy().argmax(axis=1)
    assert (predicted == LABELS).mean() > 0.9


def test_two_trainings_end_with_the_same_bits():
    def weights() -> list[bytes]:
        step = classifier_step(steps=12, schedule="one_cycle", weight_decay=0.1, label_smoothing=0.1, average=0.9)
        options: dict[str, Any] = {"batch_size": 16, "steps": 12, "report_every": 5, "seed": 1}
        for _ in train(
            step, lambda epoch: [IMAGES[:40], IMAGES[40:]], LABELS, **options, label="toy", divergence_hint=""
        ):
            pass
        return [value.tobytes() for value in step.model.get_weights() + step.averaged.model.get_weights()]

    assert weights() == weights()


def test_a_schedule_that_starts_at_0_leaves_the_weights_alone_in_the_first_step():
    step = classifier_step(schedule="one_cycle", weight_decay=0.5)
    before = [weight.numpy() for weight in step.model.trainable_variables]
    step(tf.constant(IMAGES), tf.constant(LABELS), tf.constant(0, tf.int64))
    for old, new in zip(before, step.model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_label_smoothing_has_the_entropy_of_the_smoothed_labels_as_its_floor(smoothing):
    # Weights for which the logits of an image of class k, whose pixel k is 255, are the logarithms of its target.
    target = np.clip(np.eye(4) * (1 - smoothing) + smoothing / 4, 1e-9, None)
    inputs = keras.Input([2, 2, 1], dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4, use_bias=False)(flat))
    model.set_weights([np.log(target)])
    images = (255 * np.eye(4)).astype(np.uint8).reshape(4, 2, 2, 1)
    loss, accuracy = classifier_step(model, label_smoothing=smoothing)(
        tf.constant(images), tf.range(4), tf.constant(0, tf.int64)
    )
    assert float(loss) == pytest.approx(-np.sum(target[0] * np.log(target[0])), abs=1e-5)
    assert float(accuracy) == 1


def test_weight_decay_shrinks_kernels_and_leaves_biases_and_norms_alone():
    images, labels, first = tf.constant(IMAGES), tf.constant(LABELS), tf.constant(0, tf.int64)
    with_decay, without = classifier_step(weight_decay=0.5), classifier_step()
    for step in (with_decay, without):  # biases start at 0, where decay would not show
        step.model.set_weights([value + 0.3 for value in step.model.get_weights()])
    kernels = [weight.numpy() for weight in without.model.trainable_variables]
    with_decay(images, labels, first)
    without(images, labels, first)
    seen = set()
    for start, a, b in zip(
        kernels, without.model.trainable_variables, with_decay.model.trainable_variables, strict=True
    ):
        seen.add(b.name)
        expected = a.numpy() - 0.02 * 0.5 * start if b.name == "kernel" else a.numpy()
        np.testing.assert_allclose(b, expected, atol=1e-6)
    assert seen == {"kernel", "bias", "gamma", "beta"}


def linear_model(dtype: str = "float32"):
    """One kernel [4, 3], zero at first, on the four pixels of an image over 255."""
    with compute_in(dtype):
        inputs = keras.Input([2, 2, 1], dtype="uint8")
        flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
        dense = keras.layers.Dense(3, use_bias=False, dtype="float32", kernel_initializer="zeros")
        return keras.Model(inputs, dense(flat))


def softmax_gradient(kernel: np.ndarray, images: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of the mean of the weighted cross-entropies."""
    pixels = images.reshape(len(images), -1) / 255
    exponentials = np.exp(pixels @ kernel)
    errors = exponentials / exponentials.sum(axis=1, keepdims=True) - np.eye(3)[labels]
    return pixels.T @ (errors * weights[:, None]) / len(images)


TOY_IMAGES, TOY_LABELS = IMAGES[:12, :2, :2], LABELS[:12]


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_sgd_is_nesterov_s_closed_form_with_decoupled_decay(momentum):
    step = classifier_step(linear_model(), optimizer="sgd", lr=0.3, momentum=momentum, weight_decay=0.1)
    kernel = velocity = np.zeros((4, 3))
    for index in range(5):
        step(tf.constant(TOY_IMAGES), tf.constant(TOY_LABELS), tf.constant(index, tf.int64))
        gradient = softmax_gradient(kernel, TOY_IMAGES, TOY_LABELS, np.ones(12))
        kernel = kernel * (1 - 0.3 * 0.1)
        velocity = momentum * velocity - 0.3 * gradient
        kernel = kernel + momentum * velocity - 0.3 * gradient
        np.testing.assert_allclose(step.model.get_weights()[0], kernel, atol=1e-6)


def test_sgd_learns_by_heart_too():
    step = classifier_step(optimizer="sgd", lr=0.05)
    run, images, labels = tf.function(step), tf.constant(IMAGES), tf.constant(LABELS)
    losses = [float(run(images, labels, tf.constant(i, tf.int64))[0]) for i in range(40)]
    assert losses[-1] < 0.3 * losses[0]


def test_balanced_weights_are_scikit_learn_s():
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2], np.int32)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(balanced_weights(labels, 3), expected, rtol=1e-6)
    assert balanced_weights(labels, 3)[labels].mean() == pytest.approx(1)
    assert balanced_weights(labels, 3).dtype == np.float32
    np.testing.assert_allclose(balanced_weights(labels, 5), [*expected, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(balanced_weights(np.arange(4), 4), 1)


def test_class_weights_weigh_the_loss_and_its_gradient():
    weights = np.array([0.5, 1.0, 4.0], np.float32)
    step = classifier_step(linear_model(), optimizer="sgd", lr=1.0, momentum=0.0, class_weights=weights)
    loss, _ = step(tf.constant(TOY_IMAGES), tf.constant(TOY_LABELS), tf.constant(0, tf.int64))
    assert float(loss) == pytest.approx(weights[TOY_LABELS].mean() * np.log(3), rel=1e-5)
    expected = -softmax_gradient(np.zeros((4, 3)), TOY_IMAGES, TOY_LABELS, weights[TOY_LABELS])
    np.testing.assert_allclose(step.model.get_weights()[0], expected, atol=1e-6)


def test_float16_scales_the_loss_and_survives_gradients_that_overflow():
    step = classifier_step(linear_model("mixed_float16"), optimizer="sgd", lr=1.0, momentum=0.0)
    (optimizer,) = step.optimizers
    assert type(optimizer).__name__ == "LossScaleOptimizer"
    before = float(optimizer.scale_loss(1.0))
    loss, _ = step(tf.constant(TOY_IMAGES), tf.constant(TOY_LABELS), tf.constant(0, tf.int64))
    assert float(loss) == pytest.approx(np.log(3), rel=1e-3)  # as it is, not as it is scaled
    expected = -softmax_gradient(np.zeros((4, 3)), TOY_IMAGES, TOY_LABELS, np.ones(12))
    np.testing.assert_allclose(step.model.get_weights()[0], expected, atol=2e-3)
    optimizer.dynamic_scale.assign(3e38)  # a gradient times this is infinite
    step.class_weights = np.full(3, 100, np.float32)
    step(tf.constant(TOY_IMAGES), tf.constant(TOY_LABELS), tf.constant(1, tf.int64))
    np.testing.assert_allclose(step.model.get_weights()[0], expected, atol=2e-3)  # skipped
    assert float(optimizer.scale_loss(1.0)) == pytest.approx(1.5e38)
    assert before == 2**15
    assert {id(v) for v in optimizer.variables} <= {id(v) for v in step.variables}


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_nothing_is_scaled_in_other_types(dtype):
    (optimizer,) = classifier_step(linear_model(dtype)).optimizers
    assert optimizer.scale_loss(1.0) == 1.0
