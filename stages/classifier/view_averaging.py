"""A classifier that looks at several views of an image and averages their logits (test-time augmentation, Krizhevsky et
al. 2012), as one network of built-in layers and operations: who loads it need not know."""

from __future__ import annotations

from typing import Literal

from stages.training.tensorflow import keras

TestViews = Literal["none", "flip", "shift", "flip_shift"]


def average_over_views(network, views: TestViews):
    """A network from uint8 [n, h, w, c] to the logits of `network`, averaged over the views; `network` itself for none.

    flip         the image and its mirror image, left to right
    shift        half the image itself, a quarter each moved up left and down right by 1/28 of its side, black moving in
    flip_shift   the shifts of both

    The result holds `network` as its layer `trunk`.
    """
    if views == "none":
        return network
    layers = keras.layers
    inputs = keras.Input(network.input_shape[1:], dtype="uint8", name="images")
    trunk = keras.Model(network.input, network.output, name="trunk")
    sides = [inputs, keras.ops.flip(inputs, axis=2)] if "flip" in views else [inputs]
    step = max(1, round(inputs.shape[1] / 28))
    up_left, down_right = ((0, step), (0, step)), ((step, 0), (step, 0))  # the rim that moves in
    shown = []
    for side in sides:
        shown.append(trunk(side))
        if "shift" in views:
            shown.append(shown[-1])
            for rim in (up_left, down_right):
                cut = tuple((after, before) for before, after in rim)
                shown.append(trunk(layers.ZeroPadding2D(rim)(layers.Cropping2D(cut)(side))))
    return keras.Model(inputs, layers.Average(name="logits")(shown))
