"""Training a GAN: its step."""

from __future__ import annotations

from stages.lib.averages import AveragedNetwork
from stages.lib.gan_losses import Loss, discriminator_loss, generator_loss, gradient_penalty
from stages.lib.runtime import keras, tf
from stages.lib.schedules import Schedule, learning_rate_factor


class AdversarialStep:
    """One Adam step of the discriminator, then one of the generator, both on the same generated images.

    The generated images carry the labels of the real ones they stand beside. The penalty (R1 on the real images and R2
    on the generated ones) is computed every `penalty_every` steps and weighted by that number (Karras et al. 2020).
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
        penalty: float,
        penalty_every: int,
        average: float,
        seed: int,
    ):
        self.generator, self.discriminator = generator, discriminator
        self.steps, self.loss, self.lr, self.schedule = steps, loss, lr, schedule
        self.penalty, self.penalty_every, self.seed = penalty, penalty_every, seed
        self.averaged = AveragedNetwork(generator, average)
        self.optimizers = [keras.optimizers.Adam(lr, beta_1=0.0, beta_2=0.99, epsilon=1e-8) for _ in range(2)]
        for optimizer, network in zip(self.optimizers, (generator, discriminator), strict=True):
            optimizer.build(network.trainable_variables)

    @property
    def variables(self):
        networks = (self.generator, self.discriminator, self.averaged.model)
        return [variable for holder in (*networks, *self.optimizers) for variable in holder.variables]

    def __call__(self, images, labels, index):
        real = tf.cast(images, tf.float32) / 127.5 - 1.0
        latent_dim = self.generator.input_shape[0][1]
        latents = tf.random.stateless_normal([tf.shape(real)[0], latent_dim], seed=tf.stack([self.seed, index]))
        generator_optimizer, discriminator_optimizer = self.optimizers
        rate = self.lr * learning_rate_factor(self.schedule, tf.cast(index, tf.float32) / self.steps)
        generator_optimizer.learning_rate.assign(rate)
        discriminator_optimizer.learning_rate.assign(rate)

        with tf.GradientTape() as generator_tape:
            fake = self.generator([latents, labels], training=True)

            with tf.GradientTape() as discriminator_tape:
                real_logits, fake_logits = self._logits(real, tf.stop_gradient(fake), labels)
                d_loss = discriminator_loss(self.loss, real_logits, fake_logits)
                objective = d_loss + self._penalty(real, tf.stop_gradient(fake), labels, index)
            gradients = discriminator_tape.gradient(objective, self.discriminator.trainable_variables)
            discriminator_optimizer.apply(gradients, self.discriminator.trainable_variables)

            real_logits, fake_logits = self._logits(real, fake, labels)
            g_loss = generator_loss(self.loss, real_logits, fake_logits)
        gradients = generator_tape.gradient(g_loss, self.generator.trainable_variables)
        generator_optimizer.apply(gradients, self.generator.trainable_variables)
        self.averaged.update(index)
        return d_loss, g_loss, tf.reduce_mean(real_logits), tf.reduce_mean(fake_logits)

    def _logits(self, real, fake, labels):
        both = self.discriminator([tf.concat([real, fake], 0), tf.concat([labels, labels], 0)], training=True)
        return tf.split(both, 2)

    def _penalty(self, real, fake, labels, index):
        if self.penalty == 0.0:
            return 0.0
        return tf.cond(
            tf.equal(index % self.penalty_every, 0),
            lambda: (
                self.penalty
                * self.penalty_every
                * (
                    gradient_penalty(self.discriminator, real, labels)
                    + gradient_penalty(self.discriminator, fake, labels)
                )
            ),
            lambda: 0.0,
        )
