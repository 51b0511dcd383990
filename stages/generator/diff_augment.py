"""Differentiable augmentations of the discriminator's inputs (DiffAugment, Zhao et al. 2020), and how often they are
applied (adaptive discriminator augmentation, Karras et al. 2020).

Real and generated images are augmented alike, so the generator learns the original images while the discriminator never
sees the same image twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from stages.training.distribution import global_batch_size, replica_slice
from stages.training.tensorflow import keras, tf

Augmentation = Literal["colour", "translation", "cutout"]

MAX_SHIFT = 1 / 8  # of the image's side, in each direction
CUTOUT_SIDE = 1 / 2  # of the image's side
ADAPTATION_SHARE = 0.1  # share of the training's steps in which the probability can rise from 0 to 1


class DiffAugment:
    """Augments images float32 [n, h, w, c] in -1..1, each kind on each image with probability `probability`.

    target: share of the real images that the discriminator should classify as real, see losses.share_seen_as_real. The
    probability starts at 0; it rises while the share is above the target, else it falls. None keeps it at 1.
    """

    def __init__(self, kinds: Sequence[Augmentation], target: float | None = None, steps: int = 1):
        self.kinds, self.target = tuple(kinds), target
        self.rate = 1.0 / max(1.0, ADAPTATION_SHARE * steps)
        self.probability = keras.Variable(1.0 if target is None else 0.0, trainable=False, name="augmentation")
        self.variables = [] if target is None else [self.probability]

    def __call__(self, images, seed):
        """The augmented images; the augmentations are drawn from `seed`, int64 [2]."""
        augment = {"colour": _recolour, "translation": _translate, "cutout": _cut_out}
        for number, kind in enumerate(self.kinds):
            kind_seed = tf.random.experimental.stateless_fold_in(seed, number)
            changed = augment[kind](images, kind_seed)
            if self.target is not None:
                (chance,) = _uniform(images, tf.reverse(kind_seed, [0]), 1)
                changed = tf.where(chance < self.probability.value, changed, images)
            images = changed
        return images

    def adapt(self, seen_as_real) -> None:
        """Moves the probability one step, given the share of this batch's real images that were seen as real."""
        if self.target is not None:
            step = self.rate * tf.sign(seen_as_real - self.target)
            self.probability.assign(tf.clip_by_value(self.probability.value + step, 0.0, 1.0))


def _recolour(images, seed):
    """Shifts brightness by -0.5..0.5, scales saturation by 0..2 (no effect on grey images) and contrast by 0.5..1.5."""
    brightness, saturation, contrast = _uniform(images, seed, 3)
    images += brightness - 0.5
    grey = tf.reduce_mean(images, axis=3, keepdims=True)
    images = grey + (images - grey) * 2.0 * saturation
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return mean + (images - mean) * (0.5 + contrast)


def _translate(images, seed):
    """Shifts by whole pixels, and fills with 0, the middle grey."""
    height, width = images.shape[1:3]
    down, right = (_uniform_integer(share, -round(MAX_SHIFT * side), round(MAX_SHIFT * side)) for share, side in
                   zip(_uniform(images, seed, 2), (height, width), strict=True))  # fmt: skip
    for axis, side, shift in ((1, height, down), (2, width, right)):
        source = tf.range(side)[None, :] - shift[:, 0, 0, :]  # [n, side]
        inside = tf.cast((source >= 0) & (source < side), images.dtype)
        images = tf.gather(images, tf.clip_by_value(source, 0, side - 1), axis=axis, batch_dims=1)
        images *= tf.expand_dims(tf.expand_dims(inside, 3 - axis), 3)
    return images


def _cut_out(images, seed):
    """Sets a square, centred at random and clipped at the border, to 0."""
    outside = []
    for axis, share in enumerate(_uniform(images, seed, 2)):
        side = images.shape[1 + axis]
        length = max(1, round(CUTOUT_SIDE * side))
        first = _uniform_integer(share, 0, side - length % 2) - length // 2
        positions = tf.reshape(tf.range(side), [1, side, 1, 1] if axis == 0 else [1, 1, side, 1])
        outside.append((positions < first) | (positions >= first + length))
    return images * tf.cast(outside[0] | outside[1], images.dtype)


def _uniform(images, seed, count: int):
    """`count` uniform random tensors in [0, 1), float32 [n, 1, 1, 1]."""
    return tf.unstack(
        replica_slice(tf.random.stateless_uniform([count, global_batch_size(images), 1, 1, 1], seed), axis=1)
    )


def _uniform_integer(share, first: int, last: int):
    """int32 first..last, all equally likely when `share` is uniform in [0, 1)."""
    return first + tf.cast(tf.floor(share * (last - first + 1)), tf.int32)
