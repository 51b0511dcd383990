"""Training a classifier: its step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from stages.training.averages import AveragedNetwork
from stages.training.batch_norm import with_fused_batch_norm
from stages.training.distribution import scale_for_replicas
from stages.training.schedules import Schedule, learning_rate_factor
from stages.training.step import Step
from stages.training.tensorflow import keras, tf

Optimizer = Literal["adamw", "sgd"]


class ClassifierStep(Step):
    """One step of AdamW (Loshchilov & Hutter 2019) or of SGD with Nesterov momentum (Sutskever et al. 2013) on the
    cross-entropy with smoothed labels (Szegedy et al. 2016).

    model: gives the first weights; `self.model`, a copy where that is faster, is what is trained.
    class_weights: what an image of each class counts, float32 [classes]; None counts all alike.
    mix: changes images uint8 [n, h, w, c] and targets float32 [n, classes] in step `index`, such as Mixing.
    A network that computes in float16 has its loss scaled (Micikevicius et al. 2018).
    """

    metrics = ("loss", "accuracy")

    def __init__(
        self,
        model,
        *,
        steps: int,
        lr: float,
        schedule: Schedule,
        weight_decay: float,
        beta_2: float,
        label_smoothing: float,
        average: float,
        optimizer: Optimizer = "adamw",
        momentum: float = 0.9,
        class_weights: np.ndarray | None = None,
        mix: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None,
    ):
        self.model, self.class_weights, self.mix = with_fused_batch_norm(model), class_weights, mix
        self.averaged = AveragedNetwork(self.model, average)
        self.rate = lambda index: lr * learning_rate_factor(schedule, tf.cast(index, tf.float32) / steps)
        self.recipe = optimizer, lr, weight_decay, beta_2, momentum
        self.optimizers = [self.build_optimizer(variables) for variables in self.parts]
        self.label_smoothing = label_smoothing

    @property
    def parts(self) -> list[Sequence[Any]]:
        """The trainable variables, a list per optimizer."""
        return [self.model.trainable_variables]

    @property
    def variables(self):
        states = [variable for optimizer in self.optimizers for variable in optimizer.variables]
        return [*self.model.variables, *self.averaged.model.variables, *states]

    def build_optimizer(self, variables: Sequence[Any]):
        name, lr, weight_decay, beta_2, momentum = self.recipe  # lr is the peak: each update sets the rate of its step
        if name == "adamw":
            optimizer = keras.optimizers.AdamW(lr, weight_decay=weight_decay, beta_2=beta_2)
        else:
            optimizer = keras.optimizers.SGD(lr, momentum, nesterov=True, weight_decay=weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        if self.model.compute_dtype == "float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(variables)
        return optimizer

    @property
    def variants(self):
        return [partial(self._step, self.update)]

    def _step(self, update, images, labels, index):
        targets = tf.one_hot(labels, self.model.output_shape[-1])
        if self.mix:
            images, targets = self.mix(images, targets, index)
            labels = tf.argmax(targets, axis=-1, output_type=labels.dtype)  # of the larger share
        loss, logits = update(images, targets, index)
        self.averaged.update(index)
        hits = tf.equal(tf.argmax(logits, axis=-1, output_type=labels.dtype), labels)
        return loss, tf.reduce_mean(tf.cast(hits, tf.float32))

    def update(self, images, targets, index):
        """Moves the weights; returns the loss [] and the logits [n, classes] before that."""
        (optimizer,) = self.optimizers
        with tf.GradientTape() as tape:
            loss, logits = self.forward(images, targets, training=True)
            objective = scale_for_replicas(optimizer.scale_loss(loss))
        gradients = tape.gradient(objective, self.model.trainable_variables)
        optimizer.learning_rate.assign(self.rate(index))
        optimizer.apply(gradients, self.model.trainable_variables)
        return loss, logits

    def forward(self, images, targets, training: bool):
        """Loss [] and logits [n, classes]."""
        logits = self.model(images, training=training)
        losses = keras.losses.categorical_crossentropy(targets, logits, True, self.label_smoothing)  # [n]
        if self.class_weights is not None:
            losses *= tf.linalg.matvec(targets, self.class_weights)
        return tf.reduce_mean(losses), logits


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """float32 [classes]: inversely proportional to how often a class occurs in labels int [n], with mean 1 over the
    images (King & Zeng 2001); a class without images gets 1."""
    counts = np.bincount(labels, minlength=classes)
    return np.where(counts, len(labels) / ((counts > 0).sum() * np.maximum(counts, 1)), 1.0).astype(np.float32)
