"""The training step of a GAN."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product

from stages.generator.diff_augment import Augmentation, DiffAugment
from stages.generator.losses import Loss, discriminator_loss, generator_loss, share_seen_as_real
from stages.generator.regularisers import (
    default_penalty,
    feature_distance,
    gradient_penalty,
    mismatch_loss,
    wrong_labels,
)
from stages.training.averages import AveragedNetwork
from stages.training.batch_norm import with_fused_batch_norm
from stages.training.distribution import (
    average_over_replicas,
    global_batch_size,
    replica_slice,
    scale_for_replicas,
)
from stages.training.schedules import Schedule, learning_rate_factor
from stages.training.step import Step
from stages.training.tensorflow import keras, tf


class AdversarialStep(Step):
    """One Adam step of the discriminator and then, at every `discriminator_steps`-th call, one of the generator, on the
    same generated images.

    Each generated image has the label of the real image in its place. The gradient penalty is computed every
    `penalty_every` steps and weighted by that number (Karras et al. 2020); `penalty` None takes the loss's own weight.
    `clip` bounds the weights of a wgan's discriminator. `classes` is the number of classes; `mismatch` needs a
    discriminator with a layer "match". See params.yaml for the other switches.
    """

    metrics = ("d_loss", "g_loss", "d_real", "d_fake")

    def __init__(
        self,
        generator,
        discriminator,
        *,
        steps: int,
        loss: Loss,
        lr: float,
        schedule: Schedule,
        penalty: float | None,
        penalty_every: int,
        average: float,
        seed: int,
        discriminator_lr: float | None = None,
        discriminator_steps: int = 1,
        clip: float = 0.01,
        mismatch: float = 0.0,
        classes: int = 1,
        feature_matching: float = 0.0,
        real_label: float = 1.0,
        diff_augment: Sequence[Augmentation] = (),
        ada_target: float | None = None,
    ):
        # No fused batch norm for the discriminator: a gradient penalty needs second derivatives, which the fused
        # operation lacks.
        self.generator, self.discriminator = with_fused_batch_norm(generator), discriminator
        self.steps, self.loss, self.schedule, self.seed = steps, loss, schedule, seed
        self.penalty = default_penalty(loss) if penalty is None else penalty
        self.penalty_every, self.clip = penalty_every, clip
        self.discriminator_steps = discriminator_steps
        self.mismatch, self.classes = mismatch, classes
        self.feature_matching, self.real_label = feature_matching, real_label
        self.augment = DiffAugment(diff_augment, ada_target, steps)
        self.averaged = AveragedNetwork(self.generator, average)
        features = self.discriminator.get_layer("features").output
        self.logits_and_features = keras.Model(self.discriminator.inputs, [self.discriminator.output, features])
        if mismatch:
            match = self.discriminator.get_layer("match").output
            self.match = keras.Model([features, self.discriminator.inputs[1]], match)
        self.lrs = lr, discriminator_lr or lr  # the peaks: each step sets the rates by the schedule
        self.optimizers = [keras.optimizers.Adam(rate, beta_1=0.0, beta_2=0.99, epsilon=1e-8) for rate in self.lrs]
        for optimizer, network in zip(self.optimizers, (self.generator, self.discriminator), strict=True):
            optimizer.build(network.trainable_variables)
        self.with_penalty = [False] if self.penalty == 0 else [True] if penalty_every == 1 else [False, True]
        self.with_generator = [True] if discriminator_steps == 1 else [False, True]

    @property
    def variables(self):
        holders = (self.generator, self.discriminator, self.averaged.model, *self.optimizers, self.augment)
        return [variable for holder in holders for variable in holder.variables]

    @property
    def variants(self):
        return [partial(self._step, *which) for which in product(self.with_penalty, self.with_generator)]

    def variant(self, index):
        """The penalty is due at every `penalty_every`-th call, the generator at every `discriminator_steps`-th."""
        penalty = tf.cast(index % self.penalty_every == 0, tf.int32) * (len(self.with_penalty) - 1)
        last = tf.cast((index + 1) % self.discriminator_steps == 0, tf.int32) * (len(self.with_generator) - 1)
        return len(self.with_generator) * penalty + last

    def _step(self, with_penalty: bool, with_generator: bool, images, labels, index):
        seed = tf.stack([self.seed, index])
        seeds = tf.unstack(tf.random.split(seed, 6))
        real = tf.cast(images, tf.float32) / 127.5 - 1.0
        latent_shape = [global_batch_size(real), self.generator.input_shape[0][1]]
        latents = replica_slice(tf.random.stateless_normal(latent_shape, seed))
        factor = learning_rate_factor(self.schedule, tf.cast(index, tf.float32) / self.steps)
        for optimizer, lr in zip(self.optimizers, self.lrs, strict=True):
            optimizer.learning_rate.assign(lr * factor)

        with tf.GradientTape() as tape:
            fake = self.generator([latents, labels], training=True)
        detached = tf.stop_gradient(fake)
        d_loss, real_logits, fake_logits = self._update_discriminator(real, detached, labels, with_penalty, seeds[:4])
        if with_generator:
            g_loss, real_logits, fake_logits, image_gradients = self._generator_gradients(
                real, detached, labels, real_logits, seeds[4:]
            )
            gradients = tape.gradient(fake, self.generator.trainable_variables, output_gradients=image_gradients)
            self.optimizers[0].apply(gradients, self.generator.trainable_variables)
            self.averaged.update(index // self.discriminator_steps)
        else:
            g_loss = generator_loss(self.loss, real_logits, fake_logits)
        return d_loss, g_loss, tf.reduce_mean(real_logits), tf.reduce_mean(fake_logits)

    def _update_discriminator(self, real, fake, labels, with_penalty: bool, seeds):
        """Updates the discriminator; returns its loss and logits on the augmented images from before the update."""
        real, fake = self.augment(real, seeds[0]), self.augment(fake, seeds[1])
        weights = self.discriminator.trainable_variables
        with tf.GradientTape() as tape:
            # Two calls, because batch norm and the deviation within a batch are statistics of one kind of images.
            real_logits, real_features = self.logits_and_features([real, labels], training=True)
            fake_logits = self.discriminator([fake, labels], training=True)
            d_loss = discriminator_loss(self.loss, real_logits, fake_logits, self.real_label)
            objective = d_loss
            if self.mismatch:
                # Only the part that depends on the label: the rest of the logits cancels, and a bias whose gradient is
                # the rounding error of a difference would drift under Adam.
                wrong = wrong_labels(labels, self.classes, seeds[3])
                matching, mismatching = (self.match([real_features, given], training=True) for given in (labels, wrong))
                objective += self.mismatch * mismatch_loss(matching, mismatching)
            if with_penalty:
                penalty = gradient_penalty(self.loss, self.discriminator, real, fake, labels, seeds[2])
                objective += self.penalty * self.penalty_every * penalty
            objective = scale_for_replicas(objective)
        self.optimizers[1].apply(tape.gradient(objective, weights), weights)
        if self.loss == "wgan":
            for weight in weights:
                weight.assign(tf.clip_by_value(weight, -self.clip, self.clip))
        self.augment.adapt(average_over_replicas(share_seen_as_real(self.loss, real_logits, fake_logits)))
        return d_loss, real_logits, fake_logits

    def _generator_gradients(self, real, fake, labels, real_logits, seeds):
        """The generator's loss, the logits, and the gradients of its objective with respect to the generated images."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(fake)
            fake_logits, fake_features = self.logits_and_features([self.augment(fake, seeds[0]), labels], training=True)
            objective = 0.0
            if self.loss == "relativistic" or self.feature_matching:  # the others ignore the real images
                augmented = self.augment(real, seeds[1])
                real_logits, real_features = self.logits_and_features([augmented, labels], training=True)
                objective = self.feature_matching * feature_distance(real_features, fake_features)
            g_loss = generator_loss(self.loss, real_logits, fake_logits)
            objective = scale_for_replicas(objective + g_loss)
        return g_loss, real_logits, fake_logits, tape.gradient(objective, fake)
