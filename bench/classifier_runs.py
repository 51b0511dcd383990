"""Single trainings for bench/classifier.py: seconds and test accuracy after each epoch."""

import os
import shlex
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from bench import article
from bench.common import ROOT
from bench.images import Images
from bench.peak import convolution_seconds, flops_per_image
from stages.augment import AugmentParams, recipe
from stages.augmentation.operations import augment
from stages.classifier.base.networks import build_classifier
from stages.classifier.training import build_network, build_step
from stages.classifier.view_averaging import average_over_views
from stages.train_cnn import CnnParams
from stages.training.loop import steps_per_epoch, train
from stages.training.network_files import copy_in_float32
from stages.training.scores import accuracy
from stages.training.tensorflow import compute_dtype, seed_everything

SPEED_STEPS, SPARE = 48, 0.97  # steps from which the speed is known; share of the time that is planned for

Overrides = Mapping[str, Any]  # `section.key: value`


def preset(*names: str) -> dict[str, Any]:
    """The params that presets change, `section.key: value`; those of later ones win."""
    words = [word for name in names for word in shlex.split((ROOT / "presets" / name).read_text(encoding="utf-8"))]
    pairs = (word.partition("=") for word in words if word != "-S")
    return {key: yaml.safe_load(value) for key, _, value in pairs}


def load(overrides: Overrides) -> tuple[AugmentParams, CnnParams]:
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key, value in overrides.items():
        section, name = key.split(".")
        document[section][name] = value
    return AugmentParams.model_validate(document["augment"]), CnnParams.model_validate(document["cnn"])


def train_article(images: Images, seed: int, epochs: int | None, seconds: float | None) -> dict[str, Any]:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    rows = article.train(*images, seed=seed, epochs=epochs, seconds=seconds)
    return {"seconds": rows[-1][0], "accuracy": rows[-1][1], "epochs": len(rows), "by_epoch": rows}


def train_recipe(images: Images, seed: int, overrides: Overrides, seconds: float | None) -> dict[str, Any]:
    """One training; with `seconds` in as many epochs as fit into them. `accuracy` is that of the network as the stage
    saves it, `plain` its accuracy without averaging over views of the test images."""
    if seconds is not None:
        epochs = _epochs_within(images, overrides, SPARE * seconds)
        overrides = {**overrides, "cnn.epochs": epochs, "augment.views": epochs}
    tested, rows = 0.0, []
    seed_everything(seed)  # imports TensorFlow
    start = time.perf_counter()
    step, params, reports = _training(images, seed, overrides)
    for _ in reports:
        before = time.perf_counter()
        rows.append((before - start - tested, _accuracy(step.averaged.model, images)))
        tested += time.perf_counter() - before
    classes = int(images.train_labels.max()) + 1
    network = copy_in_float32(step.averaged.model, lambda: build_network(params, images.train.shape[1:], classes))
    return {
        "seconds": rows[-1][0],
        "accuracy": _accuracy(average_over_views(network, params.test_views), images),
        "plain": _accuracy(network, images),
        "epochs": len(rows),
        "weights": network.count_params(),
        "by_epoch": rows,
    }


def _training(images: Images, seed: int, overrides: Overrides):
    """The step, its params, and the reports of the training, one an epoch."""
    augmentation, params = load(overrides)
    chosen = [make() for make in recipe(augmentation).values()]
    kept: dict[int, list[np.ndarray]] = {}

    def view(epoch: int) -> list[np.ndarray]:
        number = epoch % augmentation.views
        if number not in kept:
            kept[number] = [augment(images.train, 0, seed, number, chosen)]
        return kept[number]

    seed_everything(seed)
    labels, batch_size = images.train_labels, min(params.batch_size, len(images.train))
    per_epoch = steps_per_epoch([images.train], batch_size)
    step = build_step(params, images.train.shape[1:], labels, int(labels.max()) + 1, per_epoch)
    reports = train(
        step,
        view,
        labels,
        batch_size=batch_size,
        steps=params.epochs * per_epoch,
        report_every=per_epoch,
        seed=seed,
        label="train cnn",
        divergence_hint="lower cnn.lr",
    )
    return step, params, reports


def _epochs_within(images: Images, overrides: Overrides, seconds: float) -> int:
    """How many epochs take so long, by the speed of a few steps after the first epoch, which holds the compiling."""
    _, params = load(overrides)
    part = images.train[: SPEED_STEPS * params.batch_size]
    few = images._replace(train=part, train_labels=images.train_labels[: len(part)])
    start = time.perf_counter()
    _, _, reports = _training(few, 0, {**overrides, "cnn.epochs": 3, "augment.views": 3})
    ends = [time.perf_counter() - start for _ in reports]
    an_epoch = (ends[2] - ends[0]) / 2
    return max(1, int((seconds - (ends[0] - an_epoch)) / (an_epoch * len(images.train) / len(part))))


def _accuracy(network, images: Images) -> float:
    return accuracy(network.predict(images.test, batch_size=512, verbose=0), images.test_labels)


def measure_peak(arch: str, shape: tuple[int, int, int], classes: int, overrides: Overrides) -> dict[str, float]:
    """What the convolutions of a network can do on this machine: in the recipe's batch size and the fastest dtype."""
    _, params = load(overrides)
    seed_everything(0)
    network = build_classifier(arch, shape, classes, params.width, compute_dtype("auto"), params.depth)  # type: ignore[arg-type]
    return {
        "images_per_second": params.batch_size / convolution_seconds(network, params.batch_size),
        "flops_per_image": flops_per_image(network),
    }
