"""Augmentations of what a discriminator sees, through which gradients pass (DiffAugment, Zhao et al. 2020), and how
often they are applied (adaptive discriminator augmentation, Karras et al. 2020).

Real and generated images are changed alike, so the generator learns the images as they are while the discriminator
never sees one twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from stages.training.distribution import global_batch_size, replica_slice
from stages.training.tensorflow import keras, tf

Augmentation = Literal["colour", "translation", "cutout"]

SHIFT = 1 / 8  # of the side, the largest translation in each direction
CUT = 1 / 2  # of the side, the side of the square that cutout blanks
ADAPTED_WITHIN = 0.1  # share of the training's steps in which the strength can go from 0 to 1


class DiffAugment:
    """Changes images float32 [n, h, w, c] in -1..1, each kind on each image with probability `probability`.

    target: share of the real images that the discriminator is to take for real, see gan_losses.share_seen_as_real: with
    more of them the probability, 0 at first, rises, with fewer it falls. None keeps the probability at 1.
    """

    def __init__(self, kinds: Sequence[Augmentation], target: float | None = None, steps: int = 1):
        self.kinds, self.target = tuple(kinds), target
        self.rate = 1.0 / max(1.0, ADAPTED_WITHIN * steps)
        self.probability = keras.Variable(1.0 if target is None else 0.0, trainable=False, name="augmentation")
        self.variables = [] if target is None else [self.probability]

    def __call__(self, images, seed):
        """The images changed as drawn from `seed`, int64 [2]."""
        change = {"colour": _recolour, "translation": _translate, "cutout": _cut_out}
        for number, kind in enumerate(self.kinds):
            drawn = tf.random.experimental.stateless_fold_in(seed, number)
            changed = change[kind](images, drawn)
            if self.target is not None:
                (chance,) = _uniform(images, tf.reverse(drawn, [0]), 1)
                changed = tf.where(chance < self.probability.value, changed, images)
            images = changed
        return images

    def adapt(self, seen_as_real) -> None:
        """Moves the probability one step, given the share of the real images in this batch that was seen as real."""
        if self.target is not None:
            step = self.rate * tf.sign(seen_as_real - self.target)
            self.probability.assign(tf.clip_by_value(self.probability.value + step, 0.0, 1.0))


def _recolour(images, seed):
    """Brightness by -0.5..0.5, saturation by a factor 0..2 (which grey images do not have), contrast 0.5..1.5."""
    brightness, saturation, contrast = _uniform(images, seed, 3)
    images += brightness - 0.5
    grey = tf.reduce_mean(images, axis=3, keepdims=True)
    images = grey + (images - grey) * 2.0 * saturation
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    return mean + (images - mean) * (0.5 + contrast)


def _translate(images, seed):
    """Moves by whole pixels; what moves in is 0, the middle grey."""
    height, width = images.shape[1:3]
    down, right = (_whole(share, -round(SHIFT * side), round(SHIFT * side)) for share, side in
                   zip(_uniform(images, seed, 2), (height, width), strict=True))  # fmt: skip
    for axis, side, shift in ((1, height, down), (2, width, right)):
        source = tf.range(side)[None, :] - shift[:, 0, 0, :]  # [n, side]
        inside = tf.cast((source >= 0) & (source < side), images.dtype)
        images = tf.gather(images, tf.clip_by_value(source, 0, side - 1), axis=axis, batch_dims=1)
        images *= tf.expand_dims(tf.expand_dims(inside, 3 - axis), 3)
    return images


def _cut_out(images, seed):
    """Blanks a square, centred anywhere and cut off at the rim, to 0."""
    outside = []
    for axis, share in enumerate(_uniform(images, seed, 2)):
        side = images.shape[1 + axis]
        length = max(1, round(CUT * side))
        first = _whole(share, 0, side - length % 2) - length // 2
        place = tf.reshape(tf.range(side), [1, side, 1, 1] if axis == 0 else [1, 1, side, 1])
        outside.append((place < first) | (place >= first + length))
    return images * tf.cast(outside[0] | outside[1], images.dtype)


def _uniform(images, seed, count: int):
    """`count` tensors of shares in [0, 1), float32 [n, 1, 1, 1]."""
    return tf.unstack(
        replica_slice(tf.random.stateless_uniform([count, global_batch_size(images), 1, 1, 1], seed), axis=1)
    )


def _whole(share, first: int, last: int):
    """Whole numbers first..last, int32, equally likely for a share drawn evenly."""
    return first + tf.cast(tf.floor(share * (last - first + 1)), tf.int32)
