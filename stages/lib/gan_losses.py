"""Losses of generative adversarial networks: pure functions of the discriminator's logits on real and generated images.

Each takes `real` and `fake`, float32 [n], and returns one scalar. `relativistic` pairs the i-th real image with the
i-th generated one, which must share their label.
"""

from __future__ import annotations

from typing import Literal, get_args

from stages.lib.runtime import keras, tf

Loss = Literal["bce", "hinge", "relativistic"]


def discriminator_loss(loss: Loss, real, fake):
    """The loss that the discriminator minimises.

    bce           -log sigmoid(real) - log(1 - sigmoid(fake))   (Goodfellow et al. 2014)
    hinge         max(0, 1 - real) + max(0, 1 + fake)           (Lim & Ye 2017; Miyato et al. 2018)
    relativistic  softplus(fake - real)                         (Jolicoeur-Martineau 2019; Huang et al. 2024)
    """
    softplus = keras.ops.softplus
    if loss == "bce":
        return tf.reduce_mean(softplus(-real)) + tf.reduce_mean(softplus(fake))
    if loss == "hinge":
        return tf.reduce_mean(tf.nn.relu(1.0 - real)) + tf.reduce_mean(tf.nn.relu(1.0 + fake))
    if loss == "relativistic":
        return tf.reduce_mean(softplus(fake - real))
    raise ValueError(f"loss {loss!r}, expected one of {', '.join(get_args(Loss))}")


def generator_loss(loss: Loss, real, fake):
    """The loss that the generator minimises: non-saturating for bce, -fake for hinge, softplus(real - fake) for
    relativistic; sources as above."""
    softplus = keras.ops.softplus
    if loss == "bce":
        return tf.reduce_mean(softplus(-fake))
    if loss == "hinge":
        return -tf.reduce_mean(fake)
    if loss == "relativistic":
        return tf.reduce_mean(softplus(real - fake))
    raise ValueError(f"loss {loss!r}, expected one of {', '.join(get_args(Loss))}")


def gradient_penalty(discriminator, images, labels):
    """Mean over the batch of half the squared norm of the discriminator's gradient at `images`: R1 on real images, R2
    on generated ones (Mescheder et al. 2018). images float32 [n, height, width, channels]."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = discriminator([images, labels], training=True)
    gradients = tape.gradient(logits, images)
    return 0.5 * tf.reduce_mean(tf.reduce_sum(tf.square(gradients), axis=[1, 2, 3]))
