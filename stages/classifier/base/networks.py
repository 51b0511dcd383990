"""Classifier networks: uint8 images in, logits out, the penultimate layer named `features`. They use built-in layers
only, so that Keras loads a saved network without this project."""

from __future__ import annotations

from typing import Literal

from stages.training.tensorflow import compute_in, keras

Arch = Literal["compact", "article", "vgg", "resnet"]
SMALLEST_SIDE = {"compact": 8, "article": 10, "vgg": 8, "resnet": 8}  # px


def build_classifier(
    arch: Arch, shape: tuple[int, int, int], classes: int, width: int, dtype: str = "float32", depth: int = 1
):
    """A Keras model from uint8 [n, *shape] to float32 logits [n, classes]; dtype is its dtype policy.

    width: filters of the first convolution; later ones have multiples of it.
    depth: residual convolutions of compact, convolutions per stage of vgg, blocks per stage of resnet; article
        ignores it.
    """
    build = {"compact": _compact, "article": _article, "vgg": _vgg, "resnet": _resnet}[arch]
    with compute_in(dtype):
        inputs = keras.Input(shape, dtype="uint8", name="images")
        features = build(inputs, width, depth)
        return keras.Model(inputs, keras.layers.Dense(classes, dtype="float32", name="logits")(features))


def _halvings(side: int) -> int:
    """The number of halvings after which a map of `side` px is 2 to 4 px wide."""
    return max(2, (side // 3).bit_length() - 1)


def _convolve(x, filters: int, *, kernel: int = 3, strides: int = 1, pool: bool = False, relu: bool = True):
    """Convolution, max pooling, batch norm, ReLU. Pooling comes first, so that norm and ReLU work on a quarter of the
    values."""
    layers = keras.layers
    x = layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    x = layers.MaxPooling2D(2)(x) if pool else x
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x) if relu else x


def _compact(inputs, width: int, depth: int):
    """Convolutions of `width`, 2 and 4 times `width`, each halving the map, and `depth` residual convolutions; 243 k
    weights for a width of 32 and a depth of 1. The last map is 2 to 4 px wide whatever the input."""
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    for i in range(_halvings(inputs.shape[1])):
        x = _convolve(x, width * min(2**i, 4), pool=True)
    for _ in range(depth):
        x = keras.layers.Add()([x, _convolve(x, x.shape[-1])])
    return keras.layers.GlobalMaxPooling2D(name="features")(x)


def _article(inputs, width: int, depth: int):
    """The small network of many tutorials: two convolutions with pooling, then a hidden layer; `width` is 32 there."""
    layers = keras.layers
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.MaxPooling2D(2)(layers.Conv2D(width, 3, activation="relu")(x))
    x = layers.MaxPooling2D(2)(layers.Conv2D(2 * width, 3, activation="relu")(x))
    # The softmax is applied to the logits by the loss and by softmax() in stages/training/scores.py.
    return layers.Dense(2 * width, activation="relu", name="features")(layers.Flatten()(x))


def _vgg(inputs, width: int, depth: int):
    """Stages of `depth` 3x3 convolutions, each halving the map and doubling the filters up to 8 times `width` (Simonyan
    & Zisserman 2015), with batch norm, and with average pooling in place of the hidden layers."""
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(inputs)
    for i in range(_halvings(inputs.shape[1])):
        for k in range(depth):
            x = _convolve(x, width * min(2**i, 8), pool=k == depth - 1)
    return keras.layers.GlobalAveragePooling2D(name="features")(x)


def _resnet(inputs, width: int, depth: int):
    """Stages of `depth` residual blocks of two 3x3 convolutions; each stage but the first halves the map and doubles
    the filters, up to 8 times `width` (He et al. 2016, the variant for small images). The last map is 4 to 8 px wide.
    For 32 px these are the paper's three stages, and a depth of 3 with a width of 16 is its ResNet-20."""
    layers = keras.layers
    x = _convolve(layers.Rescaling(1 / 127.5, offset=-1.0)(inputs), width)
    for i in range(_halvings(inputs.shape[1])):
        for k in range(depth):
            filters, strides = width * min(2**i, 8), 2 if i and k == 0 else 1
            same = strides == 1 and x.shape[-1] == filters
            shortcut = x if same else _convolve(x, filters, kernel=1, strides=strides, relu=False)
            x = _convolve(_convolve(x, filters, strides=strides), filters, relu=False)
            x = layers.ReLU()(layers.Add()([shortcut, x]))
    return layers.GlobalAveragePooling2D(name="features")(x)
