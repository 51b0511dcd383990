"""Blends pairs of training images."""

from __future__ import annotations

from stages.training.distribution import global_batch_size, previous_in_batch, replica_slice
from stages.training.tensorflow import tf


class Mixing:
    """mixup (Zhang et al. 2018), cutmix (Yun et al. 2019), or one of the two for each image when both are on.

    mixup, cutmix: alpha of the distribution Beta(alpha, alpha) from which the shares are drawn; 0 is off.
    An image is blended with the previous one in the batch, whose order is already random. Random draws are a function
    of (seed, index), so that a resumed training draws the same as an uninterrupted one.
    """

    def __init__(self, mixup: float, cutmix: float, seed: int):
        self.mixup, self.cutmix, self.seed = mixup, cutmix, seed

    def __call__(self, images, targets, index):
        """images uint8 [n, h, w, c], targets float32 [n, classes], index int64 [] -> both, blended; targets in the
        proportions of the two images."""
        seeds = tf.random.split(tf.stack([tf.constant(self.seed, tf.int64), index]), 4)
        count, size = global_batch_size(images), tf.shape(images)[1:3]
        if self.mixup:
            keep = mixed = replica_slice(_beta(self.mixup, count, seeds[0]))[:, None, None, None]
        if self.cutmix:
            first, last = _boxes(_beta(self.cutmix, count, seeds[1]), size, seeds[2])
            keep = cut = _outside(replica_slice(first), replica_slice(last), size)
        if self.mixup and self.cutmix:
            which = replica_slice(tf.random.stateless_uniform([count, 1, 1, 1], seeds[3])) < 0.5
            keep = tf.where(which, mixed, cut)
        pixels = tf.cast(images, tf.float32)
        # With shares in steps of 2^-15, sums of integer pixels are exact in float32: all replicas round them alike.
        exact = tf.round(keep * 2.0**15) * 2.0**-15
        blended = tf.cast(tf.round(exact * pixels + (1 - exact) * previous_in_batch(pixels)), tf.uint8)
        share = tf.reduce_mean(keep, axis=[1, 2])  # [n, 1]: mixup's share, or the area outside the box
        return blended, share * targets + (1 - share) * previous_in_batch(targets)


def _beta(alpha: float, count, seed):
    """float32 [count] from Beta(alpha, alpha): one gamma variate divided by the sum of two."""
    seeds = tf.random.split(seed, 2)
    # A gamma variate of alpha is one of alpha + 1 times U^(1 / alpha) (Marsaglia & Tsang 2000). Logarithms, because
    # most variates of a small alpha underflow.
    larger = tf.random.stateless_gamma(tf.stack([2, count]), seeds[0], alpha + 1.0)
    uniform = 1.0 - tf.random.stateless_uniform(tf.stack([2, count]), seeds[1])  # above 0
    logarithms = tf.math.log(larger) + tf.math.log(uniform) / alpha
    return tf.sigmoid(logarithms[0] - logarithms[1])


def _boxes(shares, size, seed):
    """First and last row and column, float32 [n, 2] each, of boxes with the image's proportions and the area 1 - share,
    centred at random."""
    sides = tf.cast(size, tf.float32)
    centres = tf.random.stateless_uniform(tf.stack([tf.shape(shares)[0], 2]), seed) * sides
    half = 0.5 * tf.sqrt(1 - shares)[:, None] * sides
    return tf.round(centres - half), tf.round(centres + half)


def _outside(first, last, size):
    """float32 [n, *size, 1]: 0 from `first` to `last`, clipped at the border; 1 elsewhere."""
    inside = []
    for axis in range(2):
        positions = tf.range(tf.cast(size[axis], tf.float32))
        inside.append((positions >= first[:, axis, None]) & (positions < last[:, axis, None]))
    box = inside[0][:, :, None] & inside[1][:, None, :]
    return 1 - tf.cast(box, tf.float32)[..., None]
