"""Terms beyond the loss that keep a discriminator smooth and a generator varied and true to its labels: pure functions.

A discriminator is called as `discriminator([images, labels], training=True)` and returns logits float32 [n]; images are
float32 [n, height, width, channels]. Gradients and their norms are float32 for a network of any precision.
"""

from __future__ import annotations

from stages.generator.losses import Loss
from stages.training.distribution import average_over_replicas, global_batch_size, replica_slice
from stages.training.tensorflow import tf

# Losses that need every layer of the discriminator bounded: hinge as in Miyato et al. 2018; lsgan, because the square
# of an unbounded logit destabilises the generator in its first steps.
SPECTRALLY_NORMALISED = ("hinge", "lsgan")


def default_penalty(loss: Loss) -> float:
    """The default weight of the gradient penalty for a loss: 10 for wgan-gp (Gulrajani et al. 2017), 0.3 for bce and
    relativistic, and none for the others, which clip or normalise the weights instead."""
    return {"wgan-gp": 10.0, "bce": 0.3, "relativistic": 0.3}.get(loss, 0.0)


def gradient_penalty(loss: Loss, discriminator, real, fake, labels, seed):
    """The gradient penalty for a loss: one-centred at points between real and generated images for wgan-gp, else R1 on
    the real images plus R2 on the generated ones. The points are drawn from seed, int [2]."""
    if loss == "wgan-gp":
        shares = replica_slice(tf.random.stateless_uniform([global_batch_size(real), 1, 1, 1], seed))
        return one_centred_penalty(discriminator, shares * real + (1.0 - shares) * fake, labels)
    return zero_centred_penalty(discriminator, real, labels) + zero_centred_penalty(discriminator, fake, labels)


def zero_centred_penalty(discriminator, images, labels):
    """Mean over the batch of half the squared norm of the discriminator's gradient at `images`: R1 on real images, R2
    on generated ones (Mescheder et al. 2018)."""
    return 0.5 * tf.reduce_mean(_squared_norms(discriminator, images, labels))


def one_centred_penalty(discriminator, images, labels):
    """Mean over the batch of (norm of the discriminator's gradient at `images` - 1)^2 (Gulrajani et al. 2017)."""
    # The root has no gradient at 0, its value for a discriminator that ignores an image.
    norms = tf.sqrt(_squared_norms(discriminator, images, labels) + 1e-12)
    return tf.reduce_mean((norms - 1.0) ** 2)


def feature_distance(real, fake):
    """Squared distance between the means of features [n, d] of real and of generated images: feature matching (Salimans
    et al. 2016)."""
    return tf.reduce_sum(average_over_replicas(tf.reduce_mean(real, axis=0) - tf.reduce_mean(fake, axis=0)) ** 2)


def mismatch_loss(matching, mismatching):
    """Mean softplus(mismatching - matching) of the logits of the same real images with right and with wrong labels, or
    of the parts in which these differ: a discriminator that separates them teaches the generator what belongs to a
    class (Reed et al. 2016, in the form of the relativistic loss)."""
    return tf.reduce_mean(tf.math.softplus(mismatching - matching))


def wrong_labels(labels, classes: int, seed):
    """For each of the labels int [n] one of the other classes, all equally likely, drawn from seed, int [2]."""
    offsets = replica_slice(tf.random.stateless_uniform([global_batch_size(labels)], seed, 1, classes, labels.dtype))
    return (labels + offsets) % classes


def _squared_norms(discriminator, images, labels):
    """float32 [n]"""
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = discriminator([images, labels], training=True)
    return tf.reduce_sum(tf.square(tape.gradient(logits, images)), axis=[1, 2, 3])
