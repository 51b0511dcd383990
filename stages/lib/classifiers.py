"""Classifier networks: uint8 images in, logits out, the penultimate layer named `features`. Built-in layers only, so
that a saved network loads with Keras alone."""

from __future__ import annotations

from typing import Literal

from stages.lib.runtime import compute_in, keras

Arch = Literal["compact", "article"]
SMALLEST_SIDE = {"compact": 8, "article": 10}  # px


def build_classifier(arch: Arch, shape: tuple[int, int, int], classes: int, width: int, dtype: str = "float32"):
    """A Keras model from uint8 [n, *shape] to float32 logits [n, classes]; dtype is the policy it computes in."""
    build = {"compact": _compact, "article": _article}[arch]
    with compute_in(dtype):
        return build(shape, classes, width)


def _compact(shape: tuple[int, int, int], classes: int, width: int):
    """Convolutions of `width`, 2 and 4 times `width`, each halving the map, and one residual convolution; 243 k weights
    for a width of 32.

    Pooling comes right after the convolution, so that batch norm and ReLU work on a quarter of the values. The last map
    is 2 to 4 px wide whatever the input.
    """
    layers = keras.layers

    def convolve(x, filters: int, pool: bool):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D(2)(x) if pool else x
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    inputs = keras.Input(shape, dtype="uint8", name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    halvings = max(2, (shape[0] // 3).bit_length() - 1)
    for i in range(halvings):
        x = convolve(x, width * min(2**i, 4), pool=True)
    x = layers.Add()([x, convolve(x, x.shape[-1], pool=False)])
    x = layers.GlobalMaxPooling2D(name="features")(x)
    return keras.Model(inputs, layers.Dense(classes, dtype="float32", name="logits")(x))


def _article(shape: tuple[int, int, int], classes: int, width: int):
    """The small network of many tutorials: two convolutions with pooling, then a hidden layer; `width` is 32 there."""
    layers = keras.layers
    inputs = keras.Input(shape, dtype="uint8", name="images")
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.MaxPooling2D(2)(layers.Conv2D(width, 3, activation="relu")(x))
    x = layers.MaxPooling2D(2)(layers.Conv2D(2 * width, 3, activation="relu")(x))
    x = layers.Dense(2 * width, activation="relu", name="features")(layers.Flatten()(x))
    # The softmax is applied to these logits by the loss and by softmax() in classification.py.
    return keras.Model(inputs, layers.Dense(classes, dtype="float32", name="logits")(x))
