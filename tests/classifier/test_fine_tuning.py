"""stages.classifier.fine_tuning: what stays still while it should, and how fast it moves afterwards."""

from typing import Any

import numpy as np
import pytest

from stages.classifier.backbones import backbone_of
from stages.classifier.fine_tuning import FineTuningStep
from stages.training.tensorflow import compute_in, keras, seed_everything, tf

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (32, 8, 8, 1), dtype=np.uint8)
LABELS = RANDOM.integers(0, 3, 32).astype(np.int32)


def small_classifier(dtype: str = "float32"):
    """With a backbone that has batch norm and dropout, which tell training from inference."""
    layers = keras.layers
    seed_everything(0)
    with compute_in(dtype):
        inside = keras.Input((8, 8, 1))
        x = layers.BatchNormalization()(layers.Conv2D(4, 3, use_bias=False)(inside))
        backbone = keras.Model(inside, layers.Dropout(0.5)(layers.ReLU()(x)))
        inputs = keras.Input((8, 8, 1), dtype="uint8")
        features = layers.GlobalAveragePooling2D(name="features")(backbone(layers.Rescaling(1 / 255)(inputs)))
        return keras.Model(inputs, layers.Dense(3, dtype="float32", name="logits")(features))


def fine_tuning_step(model=None, **options) -> FineTuningStep:
    defaults: dict[str, Any] = {"steps": 20, "lr": 0.01, "schedule": "constant", "weight_decay": 0.1, "beta_2": 0.99}
    defaults |= {"label_smoothing": 0.0, "average": 0.5, "frozen_steps": 3, "finetune_lr": 0.1}
    return FineTuningStep(model or small_classifier(), **(defaults | options))


def run(step: FineTuningStep, count: int, first: int = 0) -> list[float]:
    function, images, labels = tf.function(step), tf.constant(IMAGES), tf.constant(LABELS)
    return [float(function(images, labels, tf.constant(first + i, tf.int64))[0]) for i in range(count)]


def test_the_backbone_stays_as_it_is_while_it_is_frozen_and_the_head_learns():
    step = fine_tuning_step()
    backbone, head = backbone_of(step.model), step.model.get_layer("logits")
    before, head_before = backbone.get_weights(), head.get_weights()
    losses = run(step, 3)
    assert losses[2] < losses[0]
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)  # weight decay and batch statistics included
    assert all((old != new).any() for old, new in zip(head_before, head.get_weights(), strict=True))
    run(step, 1, first=3)
    changed = {weight.name for old, weight in zip(before, backbone.weights, strict=True) if (old != weight).any()}
    assert changed == {"kernel", "gamma", "beta"}  # batch norm keeps the statistics it came with


def test_the_backbone_learns_at_its_share_of_the_rate():
    # Adam's first step moves a weight by the rate, whatever the gradient.
    step = fine_tuning_step(frozen_steps=0, weight_decay=0.0, finetune_lr=0.2)
    backbone, head = backbone_of(step.model), step.model.get_layer("logits")
    before, head_before = backbone.trainable_weights[0].numpy(), head.get_weights()[0]
    run(step, 1)
    assert np.median(np.abs(head.get_weights()[0] - head_before)) == pytest.approx(0.01, rel=1e-2)
    assert np.median(np.abs(backbone.trainable_weights[0].numpy() - before)) == pytest.approx(0.002, rel=1e-2)


def test_the_backbone_is_in_inference_mode_so_that_dropout_does_not_show():
    first, second = run(fine_tuning_step(), 1), run(fine_tuning_step(), 1)
    assert first == second
    step = fine_tuning_step(frozen_steps=0, lr=1e-9)
    losses = run(step, 3)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    inference = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(LABELS, step.model(IMAGES))
    assert losses[0] == pytest.approx(float(inference), rel=1e-5)


def test_all_that_changes_is_among_the_variables():
    step = fine_tuning_step()
    state = [variable.numpy() for variable in step.variables]
    whole = run(step, 6)
    again = fine_tuning_step()
    run(again, 4)  # another state, put back
    for variable, value in zip(again.variables, state, strict=True):
        variable.assign(value)
    assert run(again, 6) == whole


def test_float16_scales_both_parts_alike():
    step = fine_tuning_step(small_classifier("mixed_float16"), frozen_steps=0, optimizer="sgd", finetune_lr=1.0)
    exact = fine_tuning_step(small_classifier(), frozen_steps=0, optimizer="sgd", finetune_lr=1.0)
    head, _ = step.optimizers
    head.dynamic_scale.assign(2.0**10)  # the two may drift apart
    before = step.model.get_weights()
    run(step, 1)
    run(exact, 1)
    for old, half, full in zip(before, step.model.get_weights(), exact.model.get_weights(), strict=True):
        np.testing.assert_allclose(half - old, full - old, atol=2e-5)
