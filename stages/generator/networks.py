"""Generators and discriminators. Generators use built-in layers only, so that Keras loads them without this project.

A generator takes latents float32 [n, latent_dim] and labels int32 [n] and returns images float32 [n, height, width,
channels] in -1..1; a discriminator takes images and labels and returns logits float32 [n].
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from stages.training.distribution import average_over_replicas
from stages.training.tensorflow import compute_in, keras, tf

Arch = Literal["conv", "dcgan", "article"]
SMALLEST_SIDE = {"conv": 8, "dcgan": 8, "article": 4}  # px


def build_generator(
    arch: Arch,
    shape: tuple[int, int, int],
    classes: int,
    latent_dim: int,
    width: int,
    conditional: bool,
    dtype="float32",
):
    """`conditional` False ignores the labels. dtype is its dtype policy."""
    with compute_in(dtype):
        latents = keras.Input([latent_dim], name="latents")
        labels = keras.Input([], dtype="int32", name="labels")
        build = {"conv": _conv_generator, "dcgan": _transposed_generator, "article": _dense_generator}[arch]
        images = build(latents, labels if conditional else None, shape, classes, width)
        return keras.Model([latents, labels], images, name="generator")


def build_discriminator(
    arch: Arch,
    shape: tuple[int, int, int],
    classes: int,
    width: int,
    conditional: bool,
    dtype="float32",
    *,
    batch_norm: bool = True,
    spectral_norm: bool = False,
    minibatch_std: bool = False,
):
    """`conditional` False ignores the labels. dtype is its dtype policy.

    batch_norm: whether dcgan uses it; the others never do, nor does any network with spectral_norm, which bounds each
    layer's gain (Miyato et al. 2018). minibatch_std gives the last layers the deviation within the batch (Karras et al.
    2018), so that the discriminator detects a generator that repeats itself. The layer named "features" is the last but
    one; in conv and dcgan, the layer "match" returns the contribution of the class to the logits.
    """
    linear = _spectrally_normalised if spectral_norm else lambda layer: layer
    append_deviation = _append_batch_deviation if minibatch_std else lambda x: x
    with compute_in(dtype):
        images = keras.Input(shape, name="images")
        labels = keras.Input([], dtype="int32", name="labels")
        inputs = images, labels if conditional else None, classes, width, linear, append_deviation
        if arch == "dcgan":
            logits = _strided_discriminator(*inputs, batch_norm and not spectral_norm)
        else:
            logits = {"conv": _conv_discriminator, "article": _dense_discriminator}[arch](*inputs)
        return keras.Model([images, labels], logits, name="discriminator")


def _conv_generator(latents, labels, shape, classes, width):
    """Dense to a map of about a quarter of the side, then convolutions with class-conditional batch norm (de Vries et
    al. 2017), each followed by a depth-to-space step (Shi et al. 2016) that doubles the side."""
    layers = keras.layers
    doublings = 3 if shape[0] > 40 else 2
    side = math.ceil(shape[0] / 2**doublings)
    channels = width * 4 // 3

    def convolve(x, filters, kernel=3, **options):
        options = {"kernel_initializer": "he_normal", **options}
        return layers.Conv2D(filters, kernel, padding="same", **options)(x)

    def normalise(x):
        return layers.ReLU()(_conditional_batch_norm(x, labels, classes))

    if labels is not None:
        latents = layers.Concatenate()([latents, layers.Embedding(classes, 32)(labels)])
    x = layers.Dense(side * side * channels, kernel_initializer="lecun_normal")(latents)
    x = normalise(layers.Reshape([side, side, channels])(x))
    for _ in range(doublings - 1):
        x = normalise(_depth_to_space(convolve(x, 4 * width)))
        # The norm would cancel a bias, whose gradient would be rounding noise, so that it would drift under Adam.
        x = normalise(convolve(x, width, use_bias=False))
    x = layers.LeakyReLU(0.2)(_depth_to_space(convolve(x, 4 * max(8, width // 6))))
    x = convolve(x, shape[2], 5, kernel_initializer="lecun_normal")
    return _crop(layers.Activation("tanh", dtype="float32")(x), shape[0])


def _conv_discriminator(images, labels, classes, width, linear, append_deviation):
    """Space to depth, then three convolutions without any norm, and on the flattened map a linear head with class
    projection (Miyato & Koyama 2018)."""
    layers = keras.layers

    def convolve(x, filters, kernel=3, strides=1):
        x = linear(layers.Conv2D(filters, kernel, strides, padding="same", kernel_initializer="he_normal"))(x)
        return layers.LeakyReLU(0.2)(x)

    odd = images.shape[1] % 2
    x = layers.ZeroPadding2D(((0, odd), (0, odd)))(images) if odd else images
    x = convolve(_space_to_depth(x), width)
    if images.shape[1] > 40:
        x = convolve(x, width, 4, 2)
    x = convolve(x, 2 * width, 4, 2)
    x = convolve(append_deviation(x), 2 * width)
    # Divided by the root of the map's area, so that a weight update changes the logits equally at any size.
    features = layers.Rescaling(1 / x.shape[1], dtype="float32", name="features")(layers.Flatten(dtype="float32")(x))
    return _project(features, labels, classes, linear)


def _transposed_generator(latents, labels, shape, classes, width):
    """The generator of Radford et al. 2015: dense to a map of 4 to 7 px with the most filters, then transposed
    convolutions that double the side and halve the filters, down to `width` before the last; the labels as in conv."""
    layers, normal = keras.layers, keras.initializers.RandomNormal
    doublings = _doublings(shape[0])
    side, filters = math.ceil(shape[0] / 2**doublings), width * 2 ** (doublings - 1)
    if labels is not None:
        latents = layers.Concatenate()([latents, layers.Embedding(classes, 32)(labels)])
    x = layers.Dense(side * side * filters, kernel_initializer=normal(0, 0.02))(latents)
    x = layers.Reshape([side, side, filters])(x)
    for step in range(1, doublings + 1):
        x = layers.ReLU()(_conditional_batch_norm(x, labels, classes))
        filters = width * 2 ** (doublings - 1 - step) if step < doublings else shape[2]
        x = layers.Conv2DTranspose(filters, 5, 2, padding="same", kernel_initializer=normal(0, 0.02))(x)
    return _crop(layers.Activation("tanh", dtype="float32")(x), shape[0])


def _strided_discriminator(images, labels, classes, width, linear, append_deviation, batch_norm):
    """The mirror image of _transposed_generator: strided convolutions, with batch norm after all but the first (Radford
    et al. 2015), and on the flattened map the head of conv."""
    layers, normal = keras.layers, keras.initializers.RandomNormal
    x = images
    for step in range(_doublings(images.shape[1])):
        filters = width * 2**step
        x = linear(layers.Conv2D(filters, 5, 2, padding="same", kernel_initializer=normal(0, 0.02)))(x)
        x = layers.BatchNormalization(momentum=0.98)(x) if batch_norm and step > 0 else x
        x = layers.LeakyReLU(0.2)(x)
    features = layers.Flatten(dtype="float32", name="features")(append_deviation(x))
    return _project(features, labels, classes, linear, kernel_initializer=normal(0, 0.02))


def _project(features, labels, classes, linear, **options):
    """Logits float32 [n] of features float32 [n, d]: a linear layer plus the product with a vector per class."""
    layers = keras.layers
    logits = linear(layers.Dense(1, dtype="float32", **options))(features)
    if labels is not None:
        # Weights of zero cannot be divided by their spectral norm.
        start = "zeros" if linear is not _spectrally_normalised else "uniform"
        embedding = layers.Embedding(classes, features.shape[-1], embeddings_initializer=start, dtype="float32")
        product = layers.Dot(axes=1, dtype="float32", name="match")([features, linear(embedding)(labels)])
        logits = layers.Add(dtype="float32")([logits, product])
    return layers.Reshape([], dtype="float32")(logits)


def _dense_generator(latents, labels, shape, classes, width):
    """The dense generator of many tutorials, refined by two convolutions; `width` 48 gives the usual 256 and 512."""
    layers = keras.layers
    x = latents if labels is None else layers.Concatenate()([latents, layers.Embedding(classes, 32)(labels)])
    for units in (width * 256 // 48, width * 512 // 48):
        x = layers.BatchNormalization()(layers.LeakyReLU(0.2)(layers.Dense(units)(x)))
    x = layers.Dense(int(np.prod(shape)), activation="tanh")(x)
    x = layers.Reshape(shape)(x)
    x = layers.LeakyReLU(0.2)(layers.Conv2D(32, 3, padding="same")(x))
    x = layers.Conv2D(shape[2], 3, padding="same")(x)
    return layers.Activation("tanh", dtype="float32")(x)


def _dense_discriminator(images, labels, classes, width, linear, append_deviation):
    layers = keras.layers
    x = layers.Flatten()(images)
    if labels is not None:
        x = layers.Concatenate()([x, layers.Embedding(classes, 32)(labels)])
    for units in (width * 512 // 48, width * 256 // 48):
        x = layers.Dropout(0.3)(layers.LeakyReLU(0.2)(linear(layers.Dense(units))(x)))
    features = layers.Identity(dtype="float32", name="features")(append_deviation(x))
    return layers.Reshape([], dtype="float32")(linear(layers.Dense(1, dtype="float32"))(features))


def _spectrally_normalised(layer):
    from stages.generator.spectral_norm import SpectralNormalization

    return SpectralNormalization(layer)


def _append_batch_deviation(x):
    """[n, ..., c] -> [n, ..., c + 1]: the standard deviation over the batch, averaged over all positions and filters,
    as an additional filter."""

    def append(x):
        values = tf.cast(x, tf.float32)
        mean = average_over_replicas(tf.reduce_mean(values, axis=0))
        variance = average_over_replicas(tf.reduce_mean((values - mean) ** 2, axis=0))
        # The root has no gradient at 0, its value for equal images.
        deviation = tf.reduce_mean(tf.sqrt(variance + 1e-8))
        return tf.concat([x, tf.zeros_like(x[..., :1]) + tf.cast(deviation, x.dtype)], -1)

    return keras.layers.Lambda(append, output_shape=(*x.shape[1:-1], x.shape[-1] + 1), name="minibatch_std")(x)


def _doublings(side: int) -> int:
    """The number of doublings from a map of 4 to 7 px to `side` px."""
    return next(count for count in range(1, 20) if math.ceil(side / 2**count) < 8)


def _crop(images, side: int):
    spare = images.shape[1] - side
    return keras.layers.Cropping2D(((spare // 2, spare - spare // 2),) * 2)(images) if spare else images


def _conditional_batch_norm(x, labels, classes):
    layers = keras.layers
    if labels is None:
        return layers.BatchNormalization(momentum=0.98)(x)
    x = layers.BatchNormalization(momentum=0.98, center=False, scale=False)(x)
    filters = x.shape[-1]
    scale = layers.Embedding(classes, filters, embeddings_initializer="ones")(labels)
    shift = layers.Embedding(classes, filters, embeddings_initializer="zeros")(labels)
    x = layers.Multiply()([x, layers.Reshape([1, 1, filters])(scale)])
    return layers.Add()([x, layers.Reshape([1, 1, filters])(shift)])


def _depth_to_space(x):
    """[n, h, w, 4 c] -> [n, 2 h, 2 w, c]"""
    _, height, width, channels = x.shape
    x = keras.layers.Reshape([height, width, 2, 2, channels // 4])(x)
    x = keras.layers.Permute([1, 3, 2, 4, 5])(x)
    return keras.layers.Reshape([2 * height, 2 * width, channels // 4])(x)


def _space_to_depth(x):
    """[n, 2 h, 2 w, c] -> [n, h, w, 4 c]"""
    _, height, width, channels = x.shape
    x = keras.layers.Reshape([height // 2, 2, width // 2, 2, channels])(x)
    x = keras.layers.Permute([1, 3, 2, 4, 5])(x)
    return keras.layers.Reshape([height // 2, width // 2, 4 * channels])(x)
