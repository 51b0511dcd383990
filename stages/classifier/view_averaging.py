"""A classifier that averages the logits of several views of an image (test-time augmentation, Krizhevsky et al. 2012),
as one network of built-in layers and operations, which loads and predicts like any other."""

from __future__ import annotations

from typing import Literal

from stages.training.tensorflow import keras

TestViews = Literal["none", "flip", "shift", "flip_shift"]


def average_over_views(network, views: TestViews):
    """A network from uint8 [n, h, w, c] to the logits of `network`, averaged over the views; `network` itself for none.

    flip         the image and its mirror image, left to right
    shift        the image itself, of weight 1/2, and shifted up left and down right by 1/28 of its side, of weight 1/4
                 each, filled with black
    flip_shift   the shifts of the image and of its mirror image

    The result holds `network` as its layer `trunk`.
    """
    if views == "none":
        return network
    layers = keras.layers
    inputs = keras.Input(network.input_shape[1:], dtype="uint8", name="images")
    trunk = keras.Model(network.input, network.output, name="trunk")
    sides = [inputs, keras.ops.flip(inputs, axis=2)] if "flip" in views else [inputs]
    step = max(1, round(inputs.shape[1] / 28))
    up_left, down_right = ((0, step), (0, step)), ((step, 0), (step, 0))  # rows and columns of black
    outputs = []
    for side in sides:
        outputs.append(trunk(side))
        if "shift" in views:
            outputs.append(outputs[-1])
            for padding in (up_left, down_right):
                cropping = tuple((after, before) for before, after in padding)
                outputs.append(trunk(layers.ZeroPadding2D(padding)(layers.Cropping2D(cropping)(side))))
    return keras.Model(inputs, layers.Average(name="logits")(outputs))
