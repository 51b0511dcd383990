"""Where in an image a classifier finds evidence for a class: Grad-CAM (Selvaraju et al. 2017)."""

from __future__ import annotations

import cv2
import numpy as np

from stages.training.tensorflow import keras, tf


def grad_cam(network, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The evidence for class classes[i] at each position of image i, float32 [n, height, width], 0 to 1 within an
    image.

    network: from uint8 images [n, height, width, channels] to logits, with a layer `features`. The feature maps are the
    last ones before this layer; their weights are the means of the logit's gradient over the positions. An image
    without evidence for the class is 0 everywhere.
    """
    height, width = images.shape[1:3]
    maps = _last_maps(network)
    found = keras.Model(network.input, maps)(images, training=False)
    with tf.GradientTape() as tape:
        tape.watch(found)
        logits = keras.Model(maps, network.output)(found, training=False)
        class_logits = tf.gather(logits, tf.constant(classes, tf.int32), axis=1, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(class_logits, found), axis=(1, 2), keepdims=True)
    coarse = tf.nn.relu(tf.reduce_sum(weights * found, axis=-1)).numpy().astype(np.float32)
    heat = np.stack([cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in coarse])
    return np.maximum(heat, 0) / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


def heat_over(images: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """uint8 colour images [n, height, width, 3]: `images`, in grey, overlaid with `heat` [n, height, width] of 0 to 1,
    from blue through green to yellow."""
    shown = np.empty((*images.shape[:3], 3), np.uint8)
    for target, image, warmth in zip(shown, images, heat, strict=True):
        colours = cv2.applyColorMap(np.rint(255 * warmth).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
        target[:] = np.rint(0.45 * image.mean(axis=2, keepdims=True) + 0.55 * colours)
    return shown


def _last_maps(network):
    """The last tensor [n, height, width, maps] before the features."""
    layers = list(network.layers)
    last = next(k for k, layer in enumerate(layers) if layer.name == "features")
    for layer in reversed(layers[: last + 1]):
        if not isinstance(layer, keras.Model) and not isinstance(layer.input, list) and len(layer.input.shape) == 4:
            return layer.input
    raise ValueError("expected a network with feature maps before its layer `features`")
