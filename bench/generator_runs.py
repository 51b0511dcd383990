"""Single trainings for bench/generator.py: figures of the generator after so many minutes."""

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
SHOWN = 12  # pictures of each class
REFERENCE: dict[str, Any] = {"steps": 3000, "batch_size": 128, "lr": 5e-3, "seed": 0}
SPEED_STEPS, SPARE = 64, 0.97  # steps from which the speed is known; share of the time that is planned for
SECONDS_BETWEEN_LOOKS = 2  # at the clock

Overrides = Mapping[str, Any]  # `gan.key: value`


def train_reference(images: Images, path: Path) -> dict[str, float]:
    """Saves the reference network; returns its accuracy on the test images and the number of its features."""
    training = ReferenceTraining([images.train], images.train_labels, 10, **REFERENCE)
    for _ in training.reports("reference", "lower the rate"):
        pass
    save_network(training.network, path)
    features, probabilities = ReferenceSpace(path)(images.test)
    return {"accuracy": accuracy(probabilities, images.test_labels), "features": features.shape[1]}


class Ruler:
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
        """The figures of real images: train against test."""
        return self._closeness(self.train) | {"label_accuracy": self.label_accuracy}

    def figures(self, fake: np.ndarray) -> dict[str, float]:
        """Of generated images uint8 [COUNT, h, w, 1], which are to show `labels`."""
        features, probabilities = self.space(fake)
        return self._closeness(features) | {"label_accuracy": accuracy(probabilities, self.labels)}

    def _closeness(self, features: np.ndarray) -> dict[str, float]:
        kid, error = kernel_distance_over_subsets(features, self.real, subsets=50, subset_size=1000, seed=0)
        precision, recall = precision_and_recall(self.real, features)
        distance = frechet_distance(features, self.real)
        return {"fd": distance, "kid": kid, "kid_error": error, "precision": precision, "recall": recall}


class Clock:
    """Seconds of training, without those of measuring, and what was measured at the marks."""

    def __init__(self, marks: Sequence[float], measure: Callable[[], dict[str, float]]):
        self.marks, self.measure, self.rows = list(marks), measure, list[dict[str, float]]()
        self.aside, self.start = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start - self.aside

    def look(self, step: int, images: int, last: bool = False) -> bool:
        """Measures when the next mark is passed, or at the end; whether there is none left. images: trained on."""
        if not self.marks or (self.seconds < self.marks[0] and not last):
            return not self.marks
        seconds, before = self.seconds, time.perf_counter()
        row = {"minutes": self.marks.pop(0) / 60, "seconds": seconds, "steps": step}
        self.rows.append(row | {"images_per_second": images / seconds} | self.measure())
        self.aside += time.perf_counter() - before
        return not self.marks


def train_ours(
    images: Images, reference: Path, seed: int, overrides: Overrides, minutes: Sequence[float]
) -> dict[str, Any]:
    """In as many steps as fit into the last of the minutes; figures are those of the averaged generator."""
    ruler, params = Ruler(images, reference), load(overrides, seed)
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
    a_step = (ends[2] - ends[0]) / (2 * SPEED_STEPS)
    steps = int((SPARE * 60 * minutes[-1] - (ends[0] - SPEED_STEPS * a_step)) / a_step)
    seed_everything(seed)
    clock = Clock([60 * mark for mark in minutes], lambda: ruler.figures(generate(averaged, latents, ruler.labels)))
    step, running = reports(steps, max(1, round(SECONDS_BETWEEN_LOOKS / a_step)))
    averaged = step.averaged.model
    for report in running:
        clock.look(report.step, report.step * params.batch_size, last=report.step == steps)
    shown = np.repeat(np.arange(10, dtype=np.int32), SHOWN)
    # Of a step: the generator once, and the discriminator on real and on generated images, for itself and for it.
    alone = convolution_seconds(step.generator, params.batch_size)
    alone += 4 * convolution_seconds(step.discriminator, params.batch_size)
    return {
        "rows": clock.rows,
        "weights": [step.generator.count_params(), step.discriminator.count_params()],
        "share_of_peak": alone / a_step,
        "samples": generate(averaged, draw_latents(len(shown), params.latent_dim, 0), shown),
    }


def load(overrides: Overrides, seed: int) -> GanParams:
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["gan"]
    changed = {key.removeprefix("gan."): value for key, value in overrides.items()}
    return GanParams.model_validate(document | changed | {"seed": seed})


def train_copied(
    images: Images, reference: Path, seed: int, name: str, minutes: Sequence[float], epochs: int | None
) -> dict[str, Any]:
    """A network of bench/keras_gans.py, until the last of the minutes or after so many epochs."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras

    from bench import keras_gans

    ruler = Ruler(images, reference)
    keras.utils.set_random_seed(seed)
    model = {"conditional_gan": keras_gans.conditional_gan, "wgan_gp": keras_gans.wgan_gp}[name]()
    latents = draw_latents(COUNT, model.latent_dim, seed)
    order = np.random.default_rng(seed).permutation(len(images.train))
    scaled, labels = model.scale(images.train[order]), images.train_labels[order]
    marks = [60 * mark for mark in minutes] if epochs is None else [float("inf")]
    clock = Clock(marks, lambda: ruler.figures(model.draw(latents, ruler.labels)))
    steps = 0

    def look(batch, logs):
        nonlocal steps
        steps += 1
        model.stop_training = clock.look(steps, steps * model.batch_size)

    after_each = keras.callbacks.LambdaCallback(on_train_batch_end=look)
    model.fit(scaled, labels, batch_size=model.batch_size, epochs=epochs or 10**6, verbose=0, callbacks=[after_each])
    if epochs is not None:
        clock.look(steps, epochs * len(images.train), last=True)
        clock.rows[-1]["minutes"] = clock.rows[-1]["seconds"] / 60
    shown = np.repeat(np.arange(10), SHOWN)
    drawn = model.draw(draw_latents(len(shown), model.latent_dim, 0), shown)
    return {"rows": clock.rows, "weights": [model.generator.count_params()], "samples": drawn}
