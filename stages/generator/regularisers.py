"""What keeps a discriminator smooth and a generator varied and true to its labels, beside the loss: pure functions.

A discriminator is called as `discriminator([images, labels], training=True)` and gives logits float32 [n]; images are
float32 [n, height, width, channels]. Gradients and their norms are float32 whatever the network computes in.
"""

from __future__ import annotations

from stages.generator.losses import Loss
from stages.training.distribution import average, global_batch_size, replica_slice
from stages.training.tensorflow import tf

# Losses that want every layer of the discriminator bounded: hinge as in Miyato et al. 2018; lsgan, whose square of an
# unbounded logit throws the generator far off in its first steps.
SPECTRALLY_NORMALISED = ("hinge", "lsgan")


def default_penalty(loss: Loss) -> float:
    """The weight of the gradient penalty that goes with a loss: 10 for wgan-gp (Gulrajani et al. 2017), 0.3 for bce and
    relativistic, and none for the others, which clip or normalise the weights instead."""
    return {"wgan-gp": 10.0, "bce": 0.3, "relativistic": 0.3}.get(loss, 0.0)


def gradient_penalty(loss: Loss, discriminator, real, fake, labels, seed):
    """The penalty that goes with a loss: around 1 between the images for wgan-gp, else R1 on the real images and R2 on
    the generated ones. seed int [2] draws the places between."""
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
    # The root has no gradient at 0, where a discriminator that ignores an image would put it.
    norms = tf.sqrt(_squared_norms(discriminator, images, labels) + 1e-12)
    return tf.reduce_mean((norms - 1.0) ** 2)


def feature_distance(real, fake):
    """Squared distance between the means of features [n, d] of real and of generated images: feature matching (Salimans
    et al. 2016)."""
    return tf.reduce_sum(average(tf.reduce_mean(real, axis=0) - tf.reduce_mean(fake, axis=0)) ** 2)


def mismatch_loss(matching, mismatching):
    """Mean softplus(mismatching - matching) of the logits of the same real images with their labels and with wrong
    ones, or of the parts in which they differ: a discriminator that tells them apart shows the generator what belongs
    to a class (Reed et al. 2016, in the form of the relativistic loss)."""
    return tf.reduce_mean(tf.math.softplus(mismatching - matching))


def wrong_labels(labels, classes: int, seed):
    """For each of the labels int [n] one of the other classes, all equally likely. seed int [2] draws them."""
    offsets = replica_slice(tf.random.stateless_uniform([global_batch_size(labels)], seed, 1, classes, labels.dtype))
    return (labels + offsets) % classes


def _squared_norms(discriminator, images, labels):
    """float32 [n]"""
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = discriminator([images, labels], training=True)
    return tf.reduce_sum(tf.square(tape.gradient(logits, images)), axis=[1, 2, 3])
