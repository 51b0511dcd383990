"""Runs network files on the present data, also networks that were trained for other classes, sizes or colours.

Images are converted to a network's input format in the same way as by ingest.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.generator.sampling import draw_latents, generate
from stages.imaging.resize import Target, fit_square
from stages.running.terminal import UserError
from stages.training.network_files import load_network
from stages.training.scores import softmax

IMAGES_AT_A_TIME = 4096


def class_probabilities(
    network: Path, classes: Sequence[str], images: np.ndarray, data_classes: Sequence[str]
) -> np.ndarray:
    """Predicts probabilities of the data's classes, float64 [n, len(data_classes)], for uint8 images [n, height, width,
    channels], with a classifier that was trained on `classes`.

    Classes are matched by name. A class that the network does not have gets 0. The probability of a class that is
    missing from the data is dropped, so that the row adds up to less than 1.

    Raises UserError when the network has another number of classes, or predicts values that are not finite.
    """
    loaded = load_network(network)
    if loaded.output_shape[-1] != len(classes):
        raise UserError(
            f"{network} distinguishes {loaded.output_shape[-1]} classes, but its classes.json names {len(classes)}: "
            "restore the pair, or train the network again"
        )
    shape = loaded.input_shape[1:]
    found = np.zeros((len(images), len(data_classes)))
    network_columns = [k for k, name in enumerate(classes) if name in data_classes]
    data_columns = [list(data_classes).index(classes[k]) for k in network_columns]
    for start in range(0, len(images), IMAGES_AT_A_TIME):
        part = slice(start, start + IMAGES_AT_A_TIME)
        logits = loaded.predict(fit_images(images[part], shape), batch_size=512, verbose=0)
        found[part, data_columns] = softmax(logits)[:, network_columns]
    if not np.isfinite(found).all():
        raise UserError(f"{network} predicts probabilities that are not finite numbers: train it again")
    return found


def generated_images(
    network: Path,
    classes: Sequence[str],
    labels: np.ndarray,
    data_classes: Sequence[str],
    shape: tuple[int, int, int],
    seed: int,
) -> np.ndarray:
    """Generates images for labels [n] of the data's classes, uint8 [n, *shape], with a generator that was trained on
    `classes`.

    Classes are matched by name. For a class that the generator does not have, it generates its other classes in turn
    (those in the data, if any): these images then count as images of the requested class.
    """
    generator = load_network(network)
    known = [k for k, name in enumerate(classes) if name in data_classes] or list(range(len(classes)))
    requested = np.array(
        [
            classes.index(data_classes[label]) if data_classes[label] in classes else known[position % len(known)]
            for position, label in enumerate(labels)
        ],
        np.int32,
    )
    latents = draw_latents(len(labels), generator.input_shape[0][1], seed)
    return fit_images(generate(generator, latents, requested), shape)


def fit_images(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Converts uint8 images [n, side, side, channels] to [n, *shape], with ingest's kernels and luma; returns images
    that already have this shape unchanged."""
    if images.shape[1:] == tuple(shape):
        return images
    target = Target(size=shape[0], channels=shape[2], fit="pad")
    fitted = np.empty((len(images), *shape), np.uint8)
    for index, image in enumerate(images):
        fitted[index] = fit_square(image if image.shape[2] == 3 else image[..., 0], target)
    return fitted
