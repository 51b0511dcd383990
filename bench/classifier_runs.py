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

SPEED_STEPS, PLANNED_SHARE = 48, 0.97  # steps for measuring the speed; share of the time to plan for

Overrides = Mapping[str, Any]  # `section.key: value`


def preset(*names: str) -> dict[str, Any]:
    """The params that presets change, `section.key: value`; later presets override earlier ones."""
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
    """One training; with `seconds`, in as many epochs as fit into them. `accuracy` is of the network as the stage saves
    it, `plain` is without averaging over views of the test images."""
    if seconds is not None:
        epochs = _epochs_within(images, overrides, PLANNED_SHARE * seconds)
        overrides = {**overrides, "cnn.epochs": epochs, "augment.views": epochs}
    test_seconds, rows = 0.0, []
    seed_everything(seed)  # imports TensorFlow
    start = time.perf_counter()
    step, params, reports = _training(images, seed, overrides)
    for _ in reports:
        before = time.perf_counter()
        rows.append((before - start - test_seconds, _accuracy(step.averaged.model, images)))
        test_seconds += time.perf_counter() - before
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
    """The step, its params, and the reports of the training, one per epoch."""
    augmentation, params = load(overrides)
    operations = [make() for make in recipe(augmentation).values()]
    views: dict[int, list[np.ndarray]] = {}

    def view(epoch: int) -> list[np.ndarray]:
        number = epoch % augmentation.views
        if number not in views:
            views[number] = [augment(images.train, 0, seed, number, operations)]
        return views[number]

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
    """The number of epochs that fit into `seconds`, from the speed of a few steps after the first epoch, which includes
    compiling."""
    _, params = load(overrides)
    part = images.train[: SPEED_STEPS * params.batch_size]
    few = images._replace(train=part, train_labels=images.train_labels[: len(part)])
    start = time.perf_counter()
    _, _, reports = _training(few, 0, {**overrides, "cnn.epochs": 3, "augment.views": 3})
    ends = [time.perf_counter() - start for _ in reports]
    epoch_seconds = (ends[2] - ends[0]) / 2
    compile_seconds = ends[0] - epoch_seconds
    return max(1, int((seconds - compile_seconds) / (epoch_seconds * len(images.train) / len(part))))


def _accuracy(network, images: Images) -> float:
    return accuracy(network.predict(images.test, batch_size=512, verbose=0), images.test_labels)


def measure_peak(arch: str, shape: tuple[int, int, int], classes: int, overrides: Overrides) -> dict[str, float]:
    """The speed of only the convolutions of a network on this machine, in the recipe's batch size and fastest dtype."""
    _, params = load(overrides)
    seed_everything(0)
    network = build_classifier(arch, shape, classes, params.width, compute_dtype("auto"), params.depth)  # type: ignore[arg-type]
    return {
        "images_per_second": params.batch_size / convolution_seconds(network, params.batch_size),
        "flops_per_image": flops_per_image(network),
    }
