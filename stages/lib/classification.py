"""Training a classifier: its step."""

from __future__ import annotations

from stages.lib.averages import AveragedNetwork
from stages.lib.runtime import keras, tf
from stages.lib.schedules import Schedule, learning_rate_factor


class ClassifierStep:
    """One AdamW step on the cross-entropy with smoothed labels (Loshchilov & Hutter 2019, Szegedy et al. 2016)."""

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
    ):
        self.model, self.steps, self.lr, self.schedule = model, steps, lr, schedule
        self.averaged = AveragedNetwork(model, average)
        self.optimizer = keras.optimizers.AdamW(lr, weight_decay=weight_decay, beta_2=beta_2)
        self.optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        self.optimizer.build(model.trainable_variables)
        self.loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing)

    @property
    def variables(self):
        return [*self.model.variables, *self.averaged.model.variables, *self.optimizer.variables]

    def __call__(self, images, labels, index):
        targets = tf.one_hot(labels, self.model.output_shape[-1])
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            loss = self.loss(targets, logits)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        progress = tf.cast(index, tf.float32) / self.steps
        self.optimizer.learning_rate.assign(self.lr * learning_rate_factor(self.schedule, progress))
        self.optimizer.apply(gradients, self.model.trainable_variables)
        self.averaged.update(index)
        hits = tf.equal(tf.argmax(logits, axis=-1, output_type=labels.dtype), labels)
        return loss, tf.reduce_mean(tf.cast(hits, tf.float32))
