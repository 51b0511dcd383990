"""Training on blends of two images."""

from __future__ import annotations

from stages.lib.runtime import tf


class Mixing:
    """mixup (Zhang et al. 2018), cutmix (Yun et al. 2019), or for each image one of the two when both are on.

    mixup, cutmix: alpha of the distribution Beta(alpha, alpha) from which the shares are drawn; 0 is off.
    An image is blended with the one before it in the batch, whose order is random already. What is drawn is a function
    of (seed, index), so that a training that goes on draws what an undisturbed one does.
    """

    def __init__(self, mixup: float, cutmix: float, seed: int):
        self.mixup, self.cutmix, self.seed = mixup, cutmix, seed

    def __call__(self, images, targets, index):
        """images uint8 [n, h, w, c], targets float32 [n, classes], index int64 [] -> the same, blended; targets in the
        shares of the two images."""
        seeds = tf.random.split(tf.stack([tf.constant(self.seed, tf.int64), index]), 4)
        shape = tf.shape(images)
        if self.mixup:
            keep = mixed = _beta(self.mixup, shape[0], seeds[0])[:, None, None, None]
        if self.cutmix:
            keep = cut = _outside_a_box(_beta(self.cutmix, shape[0], seeds[1]), shape, seeds[2])
        if self.mixup and self.cutmix:
            which = tf.random.stateless_uniform([shape[0], 1, 1, 1], seeds[3]) < 0.5
            keep = tf.where(which, mixed, cut)
        pixels = tf.cast(images, tf.float32)
        blended = tf.cast(tf.round(keep * pixels + (1 - keep) * tf.roll(pixels, 1, axis=0)), tf.uint8)
        share = tf.reduce_mean(keep, axis=[1, 2])  # [n, 1]: mixup's share, or the area outside the box
        return blended, share * targets + (1 - share) * tf.roll(targets, 1, axis=0)


def _beta(alpha: float, count, seed):
    """float32 [count] from Beta(alpha, alpha), as the share of one in the sum of two gamma variates."""
    seeds = tf.random.split(seed, 2)
    # A gamma variate of alpha is one of alpha + 1 times U^(1 / alpha) (Marsaglia & Tsang 2000); its logarithm, as for a
    # small alpha most are too small for a float.
    larger = tf.random.stateless_gamma(tf.stack([2, count]), seeds[0], alpha + 1.0)
    uniform = 1.0 - tf.random.stateless_uniform(tf.stack([2, count]), seeds[1])  # above 0
    logarithms = tf.math.log(larger) + tf.math.log(uniform) / alpha
    return tf.sigmoid(logarithms[0] - logarithms[1])


def _outside_a_box(shares, shape, seed):
    """float32 [n, h, w, 1]: 0 inside a box of the image's proportions and of the area 1 - share, centred anywhere and
    cut off at the rim; 1 elsewhere."""
    size = tf.cast(shape[1:3], tf.float32)
    centre = tf.random.stateless_uniform(tf.stack([shape[0], 2]), seed) * size
    half = 0.5 * tf.sqrt(1 - shares)[:, None] * size
    first, last = tf.round(centre - half), tf.round(centre + half)  # [n, 2]
    inside = []
    for axis in range(2):
        place = tf.range(shape[1 + axis], dtype=tf.float32)
        inside.append((place >= first[:, axis, None]) & (place < last[:, axis, None]))
    box = inside[0][:, :, None] & inside[1][:, None, :]
    return 1 - tf.cast(box, tf.float32)[..., None]
