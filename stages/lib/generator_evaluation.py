"""What evaluate says of the generator: figures, from features in the reference space, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.lib import generative_metrics as generative
from stages.lib.classification_metrics import accuracy, softmax
from stages.lib.generation import draw_latents, generate, is_conditional
from stages.lib.pictures import image_grid
from stages.lib.reference_space import ReferenceSpace
from stages.lib.reference_training import ReferenceTraining

SHOWN_CLASSES = 20


def generator_metrics(
    fake: np.ndarray, test: np.ndarray, train: np.ndarray, *, kid_subsets: int, kid_subset_size: int, seed: int
) -> dict[str, float]:
    """The part of the section `gan` of metrics.json that compares features [n, d] of as many generated, test and train
    images."""
    kid, kid_error = generative.kernel_distance(fake, test, subsets=kid_subsets, subset_size=kid_subset_size, seed=seed)
    precision, recall = generative.precision_and_recall(test, fake)
    return {
        "fd": generative.frechet_distance(fake, test),
        "fd_floor": generative.frechet_distance(train, test),
        "kid": kid,
        "kid_error": kid_error,
        "precision": precision,
        "recall": recall,
    }


def accuracy_when_trained_on_generated(
    generator,
    train_labels: np.ndarray,
    classes: int,
    test_images: np.ndarray,
    test_labels: np.ndarray,
    *,
    images: int,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> float:
    """Classification accuracy score (CAS, Ravuri & Vinyals 2019): a classifier of the reference's design is trained on
    generated images alone, with the classes as frequent as in the train set, and tested on real ones."""
    labels = np.random.default_rng([seed, 2]).permutation(train_labels)[:images]
    latents = draw_latents(len(labels), generator.input_shape[0][1], seed + 2)
    made = generate(generator, latents, labels)
    training = ReferenceTraining([made], labels, classes, steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    for _ in training.reports("classifier on generated images", "lower evaluate.cas_lr"):
        pass
    return accuracy(softmax(training.network.predict(test_images, batch_size=512, verbose=0)), test_labels)


def draw_samples(path: Path, generator, classes: Sequence[str], seed: int) -> None:
    """Generated images, a row per class."""
    shown = np.repeat(np.arange(min(len(classes), SHOWN_CLASSES)), 12)
    samples = generate(generator, draw_latents(len(shown), generator.input_shape[0][1], seed + 1), shown)
    row_labels = classes[:SHOWN_CLASSES] if is_conditional(generator) else ()
    image_grid(samples, path, columns=12, row_labels=row_labels, tile=64)


def draw_neighbours(
    path: Path, fake: np.ndarray, fake_features: np.ndarray, train_shards: list[np.ndarray], space: ReferenceSpace
) -> None:
    """Generated images beside the train images nearest to them in the reference space, of the whole train set."""
    nearest, shortest = np.zeros_like(fake), np.full(len(fake), np.inf)
    for shard in train_shards:
        features, _ = space(shard)
        index, distance = generative.nearest(fake_features, features)
        closer = distance < shortest
        nearest[closer], shortest[closer] = shard[index[closer]], distance[closer]
    image_grid(
        np.concatenate([fake, nearest]),
        path,
        columns=len(fake),
        tile=64,
        row_labels=["generated", "nearest train image"],
        title="generated images and the train images nearest to them in the reference space",
    )
