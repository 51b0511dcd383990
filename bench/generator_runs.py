"""Single trainings for bench/generator.py: metrics of the generator after given minutes of training."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.common import ROOT
from bench.images import Images
from bench.peak import convolution_seconds
from stages.evaluation.generator.distances import kernel_distance_over_subsets, precision_and_recall
from stages.generator.distances import frechet_distance
from stages.generator.sampling import draw_latents, generate
from stages.generator.training import build_step
from stages.reference_network.features import ReferenceSpace
from stages.reference_network.training import ReferenceTraining
from stages.train_gan import GanParams
from stages.training.loop import train
from stages.training.network_files import save_network
from stages.training.scores import accuracy
from stages.training.tensorflow import seed_everything

COUNT = 10_000  # generated images, and as many of the train and the test images
SHOWN = 12  # pictures per class
REFERENCE: dict[str, Any] = {"steps": 3000, "batch_size": 128, "lr": 5e-3, "seed": 0}
SPEED_STEPS, PLANNED_SHARE = 64, 0.97  # steps for measuring the speed; share of the time to plan for
SECONDS_BETWEEN_CHECKS = 2  # of the clock

Overrides = Mapping[str, Any]  # `gan.key: value`


def train_reference(images: Images, path: Path) -> dict[str, float]:
    """Trains and saves the reference network; returns its test accuracy and its number of features."""
    training = ReferenceTraining([images.train], images.train_labels, 10, **REFERENCE)
    for _ in training.reports("reference", "lower the rate"):
        pass
    save_network(training.network, path)
    features, probabilities = ReferenceSpace(path)(images.test)
    return {"accuracy": accuracy(probabilities, images.test_labels), "features": features.shape[1]}


class ReferenceMetrics:
    """Compares generated images with COUNT test images in the reference space."""

    def __init__(self, images: Images, reference: Path):
        random = np.random.default_rng(0)
        self.space = ReferenceSpace(reference)
        # The labels of the generated images are drawn from the train set, so that the two sets are independent.
        self.labels = random.choice(images.train_labels, COUNT)
        chosen = random.permutation(len(images.test))[:COUNT]
        self.real, probabilities = self.space(images.test[chosen])
        self.label_accuracy = accuracy(probabilities, images.test_labels[chosen])
        self.train, _ = self.space(images.train[random.permutation(len(images.train))[:COUNT]])

    def floor(self) -> dict[str, float]:
        """The metrics of real images: train against test."""
        return self._distances(self.train) | {"label_accuracy": self.label_accuracy}

    def measure(self, fake: np.ndarray) -> dict[str, float]:
        """The metrics of generated images uint8 [COUNT, h, w, 1] for the classes `labels`."""
        features, probabilities = self.space(fake)
        return self._distances(features) | {"label_accuracy": accuracy(probabilities, self.labels)}

    def _distances(self, features: np.ndarray) -> dict[str, float]:
        kid, error = kernel_distance_over_subsets(features, self.real, subsets=50, subset_size=1000, seed=0)
        precision, recall = precision_and_recall(self.real, features)
        distance = frechet_distance(features, self.real)
        return {"fd": distance, "kid": kid, "kid_error": error, "precision": precision, "recall": recall}


class Clock:
    """Counts seconds of training, excluding measurements, and measures at the marks."""

    def __init__(self, marks: Sequence[float], measure: Callable[[], dict[str, float]]):
        self.marks, self.measure, self.rows = list(marks), measure, list[dict[str, float]]()
        self.measuring_seconds, self.start = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start - self.measuring_seconds

    def check(self, step: int, images: int, last: bool = False) -> bool:
        """Measures when the next mark has passed, or at the end; returns whether no mark is left. images: the number of
        images trained on."""
        if not self.marks or (self.seconds < self.marks[0] and not last):
            return not self.marks
        seconds, before = self.seconds, time.perf_counter()
        row = {"minutes": self.marks.pop(0) / 60, "seconds": seconds, "steps": step}
        self.rows.append(row | {"images_per_second": images / seconds} | self.measure())
        self.measuring_seconds += time.perf_counter() - before
        return not self.marks


def train_ours(
    images: Images, reference: Path, seed: int, overrides: Overrides, minutes: Sequence[float]
) -> dict[str, Any]:
    """Trains for as many steps as fit into the last of the minutes; measures the averaged generator."""
    scores, params = ReferenceMetrics(images, reference), load(overrides, seed)
    shape, labels = images.train.shape[1:], images.train_labels
    latents = draw_latents(COUNT, params.latent_dim, seed)

    def reports(steps: int, every: int):
        planned = params.model_copy(update={"steps": steps})
        step = build_step(planned, shape, 10)
        options: dict[str, Any] = {"batch_size": params.batch_size, "steps": steps, "report_every": every, "seed": seed}
        return step, train(
            step, lambda epoch: [images.train], labels, label="train gan", divergence_hint="gan.lr", **options
        )

    seed_everything(seed)
    start = time.perf_counter()
    ends = [time.perf_counter() - start for _ in reports(3 * SPEED_STEPS, SPEED_STEPS)[1]]
    step_seconds = (ends[2] - ends[0]) / (2 * SPEED_STEPS)
    compile_seconds = ends[0] - SPEED_STEPS * step_seconds
    steps = int((PLANNED_SHARE * 60 * minutes[-1] - compile_seconds) / step_seconds)
    seed_everything(seed)
    clock = Clock(
        [60 * mark for mark in minutes],
        lambda: scores.measure(generate(averaged, latents, scores.labels)),
    )
    step, running = reports(steps, max(1, round(SECONDS_BETWEEN_CHECKS / step_seconds)))
    averaged = step.averaged.model
    for report in running:
        clock.check(report.step, report.step * params.batch_size, last=report.step == steps)
    shown = np.repeat(np.arange(10, dtype=np.int32), SHOWN)
    # A step runs the generator once, and the discriminator four times: on real and on generated images, for its own
    # update and for the generator's.
    convolutions = convolution_seconds(step.generator, params.batch_size)
    convolutions += 4 * convolution_seconds(step.discriminator, params.batch_size)
    return {
        "rows": clock.rows,
        "weights": [step.generator.count_params(), step.discriminator.count_params()],
        "share_of_peak": convolutions / step_seconds,
        "samples": generate(averaged, draw_latents(len(shown), params.latent_dim, 0), shown),
    }


def load(overrides: Overrides, seed: int) -> GanParams:
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["gan"]
    changed = {key.removeprefix("gan."): value for key, value in overrides.items()}
    return GanParams.model_validate(document | changed | {"seed": seed})


def train_copied(
    images: Images, reference: Path, seed: int, name: str, minutes: Sequence[float], epochs: int | None
) -> dict[str, Any]:
    """Trains a network of bench/keras_gans.py until the last of the minutes, or for the given epochs."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras

    from bench import keras_gans

    scores = ReferenceMetrics(images, reference)
    keras.utils.set_random_seed(seed)
    model = {"conditional_gan": keras_gans.conditional_gan, "wgan_gp": keras_gans.wgan_gp}[name]()
    latents = draw_latents(COUNT, model.latent_dim, seed)
    order = np.random.default_rng(seed).permutation(len(images.train))
    scaled, labels = model.scale(images.train[order]), images.train_labels[order]
    marks = [60 * mark for mark in minutes] if epochs is None else [float("inf")]
    clock = Clock(marks, lambda: scores.measure(model.draw(latents, scores.labels)))
    steps = 0

    def check(batch, logs):
        nonlocal steps
        steps += 1
        model.stop_training = clock.check(steps, steps * model.batch_size)

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=check)
    model.fit(scaled, labels, batch_size=model.batch_size, epochs=epochs or 10**6, verbose=0, callbacks=[callback])
    if epochs is not None:
        clock.check(steps, epochs * len(images.train), last=True)
        clock.rows[-1]["minutes"] = clock.rows[-1]["seconds"] / 60
    shown = np.repeat(np.arange(10), SHOWN)
    drawn = model.draw(draw_latents(len(shown), model.latent_dim, 0), shown)
    return {"rows": clock.rows, "weights": [model.generator.count_params()], "samples": drawn}
