"""The training step of a classifier."""

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

    model: holds the initial weights; the step trains `self.model`, a copy where that is faster.
    class_weights: the weight of an image of each class, float32 [classes]; None weights all alike.
    mix: takes and returns images uint8 [n, h, w, c] and targets float32 [n, classes] of step `index`; see Mixing.
    The loss of a network that computes in float16 is scaled (Micikevicius et al. 2018).
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
        self.optimizer_options = optimizer, lr, weight_decay, beta_2, momentum
        self.optimizers = [self.build_optimizer(variables) for variables in self.variable_groups]
        self.label_smoothing = label_smoothing

    @property
    def variable_groups(self) -> list[Sequence[Any]]:
        """The trainable variables, one group per optimizer."""
        return [self.model.trainable_variables]

    @property
    def variables(self):
        states = [variable for optimizer in self.optimizers for variable in optimizer.variables]
        return [*self.model.variables, *self.averaged.model.variables, *states]

    def build_optimizer(self, variables: Sequence[Any]):
        # lr is the peak: each update sets the rate of its step.
        name, lr, weight_decay, beta_2, momentum = self.optimizer_options
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
            labels = tf.argmax(targets, axis=-1, output_type=labels.dtype)  # the label with the larger share
        loss, logits = update(images, targets, index)
        self.averaged.update(index)
        hits = tf.equal(tf.argmax(logits, axis=-1, output_type=labels.dtype), labels)
        return loss, tf.reduce_mean(tf.cast(hits, tf.float32))

    def update(self, images, targets, index):
        """Updates the weights; returns the loss [] and the logits [n, classes] from before the update."""
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
    """float32 [classes]: inversely proportional to the frequency of each class in labels int [n], with mean 1 over the
    images (King & Zeng 2001); 1 for a class without images."""
    counts = np.bincount(labels, minlength=classes)
    return np.where(counts, len(labels) / ((counts > 0).sum() * np.maximum(counts, 1)), 1.0).astype(np.float32)
