"""Losses of generative adversarial networks: pure functions of the discriminator's logits on real and generated images.

Each takes `real` and `fake`, float32 [n], and returns one scalar. `relativistic` pairs the i-th real image with the
i-th generated one, which must share their label. `wgan` and `wgan-gp` estimate a distance only while the discriminator,
a critic there, is smooth, which weight clipping or a gradient penalty ensures.
"""

from __future__ import annotations

from typing import Literal, get_args

from stages.training.tensorflow import keras, tf

Loss = Literal["bce", "lsgan", "wgan", "wgan-gp", "hinge", "relativistic"]


def discriminator_loss(loss: Loss, real, fake, real_label: float = 1.0):
    """The loss that the discriminator minimises.

    bce            -log sigmoid(real) - log(1 - sigmoid(fake))    (Goodfellow et al. 2014)
    lsgan          (real - 1)^2 / 2 + fake^2 / 2                  (Mao et al. 2017)
    wgan, wgan-gp  fake - real                                    (Arjovsky et al. 2017; Gulrajani et al. 2017)
    hinge          max(0, 1 - real) + max(0, 1 + fake)            (Lim & Ye 2017; Miyato et al. 2018)
    relativistic   softplus(fake - real)                          (Jolicoeur-Martineau 2019; Huang et al. 2024)

    real_label: the target of bce and lsgan for real images; below 1, one-sided label smoothing (Salimans et al. 2016).
    """
    softplus, mean = keras.ops.softplus, tf.reduce_mean
    if loss == "bce":
        return real_label * mean(softplus(-real)) + (1.0 - real_label) * mean(softplus(real)) + mean(softplus(fake))
    if loss == "lsgan":
        return 0.5 * mean((real - real_label) ** 2) + 0.5 * mean(fake**2)
    if loss in ("wgan", "wgan-gp"):
        return mean(fake) - mean(real)
    if loss == "hinge":
        return mean(tf.nn.relu(1.0 - real)) + mean(tf.nn.relu(1.0 + fake))
    if loss == "relativistic":
        return mean(softplus(fake - real))
    raise ValueError(f"loss {loss!r}, expected one of {', '.join(get_args(Loss))}")


def generator_loss(loss: Loss, real, fake):
    """The loss that the generator minimises: softplus(-fake) for bce (non-saturating), (fake - 1)^2 / 2 for lsgan,
    -fake for wgan, wgan-gp and hinge, softplus(real - fake) for relativistic; sources as above."""
    softplus, mean = keras.ops.softplus, tf.reduce_mean
    if loss == "bce":
        return mean(softplus(-fake))
    if loss == "lsgan":
        return 0.5 * mean((fake - 1.0) ** 2)
    if loss in ("wgan", "wgan-gp", "hinge"):
        return -mean(fake)
    if loss == "relativistic":
        return mean(softplus(real - fake))
    raise ValueError(f"loss {loss!r}, expected one of {', '.join(get_args(Loss))}")


def share_seen_as_real(loss: Loss, real, fake):
    """Share of the real images that the discriminator classifies as real: those with a logit above 0, for lsgan above
    1/2, and for the losses whose logits have no zero point above the logit of the paired generated image. Near 1 the
    discriminator has memorised the train images."""
    threshold = {"bce": 0.0, "hinge": 0.0, "lsgan": 0.5}.get(loss, fake)
    return tf.reduce_mean(tf.cast(real > threshold, tf.float32))
