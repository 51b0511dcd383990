"""Metrics of a generator, from features in a reference space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.dataset import Images
from stages.evaluation.generator import distances
from stages.evaluation.generator.table import METRICS
from stages.evaluation.reporting.metric import computed
from stages.generator.distances import frechet_distance
from stages.generator.sampling import draw_latents, generate
from stages.reference_network.training import ReferenceTraining
from stages.training.scores import accuracy, softmax

Z = 1.959964  # standard errors on either side of a 95% interval


def generator_metrics(
    fake: np.ndarray, test: np.ndarray, train: np.ndarray, *, kid_subsets: int, kid_subset_size: int, seed: int
) -> dict[str, float]:
    """Metrics in any reference space, from features [n, d] of equally many generated, test and train images.

    `kid_low` and `kid_high` are 1.96 standard errors below and above KID.
    """
    options = {"subsets": kid_subsets, "subset_size": kid_subset_size, "seed": seed}
    kid, error = distances.kernel_distance_over_subsets(fake, test, **options)
    precision, recall = distances.precision_and_recall(test, fake)
    return {
        "fd": frechet_distance(fake, test),
        "fd_floor": frechet_distance(train, test),
        "kid": kid,
        "kid_error": error,
        "kid_low": kid - Z * error,
        "kid_high": kid + Z * error,
        "precision": precision,
        "recall": recall,
    } | computed(METRICS, fake, test)


def large_sample_metrics(
    fake: np.ndarray, test: np.ndarray, train: np.ndarray, *, sizes: int, draws: int, seed: int
) -> dict[str, float]:
    """From the same features: the distances at infinitely many images, density, coverage, and the expected coverage of
    a perfect generator."""
    density, coverage = distances.density_and_coverage(test, fake)
    options = {"sizes": sizes, "draws": draws, "seed": seed}
    return {
        "fd_infinity": distances.frechet_at_infinity(fake, test, **options),
        "fd_infinity_floor": distances.frechet_at_infinity(train, test, **options),
        "density": density,
        "coverage": coverage,
        "coverage_expected": distances.expected_coverage(len(test), len(fake)),
    }


def class_distances(
    fake: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    train: tuple[np.ndarray, np.ndarray],
    classes: Sequence[str],
    min_images: int,
) -> list[dict[str, Any]]:
    """The Frechet distances of each class's generated and train images to its test images, with equally many images of
    each kind (column `images`); empty where there are fewer than `min_images`. fake, test, train: features [n, d] and
    labels [n]."""
    counts = np.min([np.bincount(labels, minlength=len(classes)) for _, labels in (fake, test, train)], axis=0)
    measured = np.where(counts >= min_images, counts, 0)
    fds, floors = (distances.class_frechet_distances(*kind, *test, measured) for kind in (fake, train))
    return [
        {"class": name, "images": int(count), "fd": _plain(distance), "fd_floor": _plain(floor)}
        for name, count, distance, floor in zip(classes, counts, fds, floors, strict=True)
    ]


def _plain(value: float) -> float | str:
    return "" if np.isnan(value) else float(value)


def classification_accuracy_score(
    generator,
    train_labels: np.ndarray,
    classes: int,
    test_images: Images,
    test_labels: np.ndarray,
    *,
    images: int,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> float:
    """Classification accuracy score (CAS, Ravuri & Vinyals 2019): the accuracy on real images of a classifier of the
    reference's architecture, trained only on generated images with the class frequencies of the train set."""
    labels = np.random.default_rng([seed, 2]).permutation(train_labels)[:images]
    latents = draw_latents(len(labels), generator.input_shape[0][1], seed + 2)
    made = generate(generator, latents, labels)
    training = ReferenceTraining([made], labels, classes, steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    for _ in training.reports("classifier on generated images", "lower evaluate_gan.cas_lr"):
        pass
    return accuracy(softmax(test_images.predict(training.network)), test_labels)
