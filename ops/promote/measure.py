"""Runs network files on today's images: also those of models that were trained for other classes, sizes or colours.

Images are brought to what a network takes as ingest would have done it.
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


def class_probabilities(network: Path, classes: Sequence[str], images: np.ndarray, today: Sequence[str]) -> np.ndarray:
    """What a classifier that was trained on `classes` makes of uint8 images [n, height, width, channels]: probabilities
    of today's classes, float64 [n, len(today)].

    Classes are matched by name. One that the network does not know gets 0; what it gives to a class that is gone is
    lost, so that the row adds up to less than 1: that image is not recognised.

    Raises UserError when the network is none of these classes, or gives something other than numbers.
    """
    loaded = load_network(network)
    if loaded.output_shape[-1] != len(classes):
        raise UserError(
            f"{network} tells {loaded.output_shape[-1]} classes apart, and {len(classes)} are named for it: "
            "it does not belong to this list of classes"
        )
    shape = loaded.input_shape[1:]
    found = np.zeros((len(images), len(today)))
    theirs = [k for k, name in enumerate(classes) if name in today]
    ours = [list(today).index(classes[k]) for k in theirs]
    for start in range(0, len(images), IMAGES_AT_A_TIME):
        part = slice(start, start + IMAGES_AT_A_TIME)
        logits = loaded.predict(fit_images(images[part], shape), batch_size=512, verbose=0)
        found[part, ours] = softmax(logits)[:, theirs]
    if not np.isfinite(found).all():
        raise UserError(f"{network} gives probabilities that are no numbers: train it again")
    return found


def generated_images(
    network: Path,
    classes: Sequence[str],
    labels: np.ndarray,
    today: Sequence[str],
    shape: tuple[int, int, int],
    seed: int,
) -> np.ndarray:
    """Images that a generator that was trained on `classes` makes for labels [n] of today's classes, uint8 [n, *shape].

    Classes are matched by name. For one that it does not know, it is asked for those that it does in turn (of today's,
    when there are any): it has to show something, and is judged by the class it was asked for.
    """
    generator = load_network(network)
    known = [k for k, name in enumerate(classes) if name in today] or list(range(len(classes)))
    asked = np.array(
        [
            classes.index(today[label]) if today[label] in classes else known[position % len(known)]
            for position, label in enumerate(labels)
        ],
        np.int32,
    )
    return fit_images(generate(generator, draw_latents(len(labels), generator.input_shape[0][1], seed), asked), shape)


def fit_images(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Brings uint8 images [n, side, side, channels] to [n, *shape], with ingest's kernels and luma; those of that shape
    already are returned as they are."""
    if images.shape[1:] == tuple(shape):
        return images
    target = Target(size=shape[0], channels=shape[2], fit="pad")
    fitted = np.empty((len(images), *shape), np.uint8)
    for index, image in enumerate(images):
        fitted[index] = fit_square(image if image.shape[2] == 3 else image[..., 0], target)
    return fitted
