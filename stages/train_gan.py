"""Trains the generator against a discriminator on the train images as they are, and keeps the best one by the Frechet
distance to the validation images.

Reads  data/ingest (train, val), data/reference/model.keras
Writes data/train_gan/: generator.keras, history.csv, metrics.json (validation), samples/ over time and as the film
       training.webp, curves.png
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from stages.lib import distribution, terminal, tracking
from stages.lib.adversarial import AdversarialStep
from stages.lib.checkpoints import Checkpoint
from stages.lib.classification_metrics import accuracy
from stages.lib.collapse import diversity, warning
from stages.lib.dataset import Images, check_side, open_shards, read_classes, read_labels, require
from stages.lib.diff_augment import Augmentation
from stages.lib.distribution import output_folder
from stages.lib.figures import learning_curves
from stages.lib.films import write_film
from stages.lib.gan_losses import Loss
from stages.lib.gan_networks import SMALLEST_SIDE, Arch, build_discriminator, build_generator
from stages.lib.gan_regularisers import SPECTRALLY_NORMALISED
from stages.lib.generation import draw_latents, generate
from stages.lib.generative_metrics import frechet_distance
from stages.lib.launcher import is_chief
from stages.lib.network_files import copy_in_float32, save_network
from stages.lib.outputs import write_metrics, write_table
from stages.lib.params import Params, load_params
from stages.lib.pictures import grid_picture, image_grid
from stages.lib.reference_space import ReferenceSpace
from stages.lib.runtime import Precision, compute_dtype, seed_everything
from stages.lib.schedules import Schedule
from stages.lib.training import train

DATA, REFERENCE, OUTPUT = Path("data/ingest"), Path("data/reference/model.keras"), Path("data/train_gan")
SAMPLES_PER_CLASS, SHOWN_CLASSES = 12, 20
STEP_PARAMS = {"steps", "loss", "lr", "discriminator_lr", "discriminator_steps", "schedule", "penalty", "penalty_every"}
STEP_PARAMS |= {"clip", "feature_matching", "real_label", "diff_augment", "ada_target", "average", "seed"}


class GanParams(Params):
    arch: Arch
    loss: Loss
    conditional: bool
    width: int = Field(ge=4, le=1024)
    latent_dim: int = Field(ge=1, le=4096)
    spectral_norm: Literal["auto", "always", "never"]
    minibatch_std: bool
    steps: int = Field(ge=1, le=10**8)
    batch_size: int = Field(ge=2, le=65_536)
    lr: float = Field(gt=0, le=1)
    discriminator_lr: float | None = Field(gt=0, le=1)
    discriminator_steps: int = Field(ge=1, le=100)
    schedule: Schedule
    penalty: float | None = Field(ge=0, le=1000)
    penalty_every: int = Field(ge=1, le=1000)
    clip: float = Field(gt=0, le=10)
    mismatch: float = Field(ge=0, le=1000)
    feature_matching: float = Field(ge=0, le=1000)
    real_label: float = Field(gt=0.5, le=1)
    diff_augment: list[Augmentation]
    ada_target: float | None = Field(gt=0, lt=1)
    average: float = Field(ge=0, lt=1)
    evaluate_every: int = Field(ge=1, le=10**8)
    evaluate_images: int = Field(ge=2, le=100_000)
    precision: Precision
    seed: int = Field(ge=0, lt=2**31)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.real_label != 1 and self.loss not in ("bce", "lsgan"):
            raise ValueError(f"real_label is for the losses bce and lsgan: set it to 1 for {self.loss}")
        if self.ada_target is not None and not self.diff_augment:
            raise ValueError("ada_target steers diff_augment, which is empty: fill it, or set ada_target to null")
        return self


def build_network(params: GanParams, shape, classes: int, dtype: str = "float32"):
    """The generator of images [n, *shape]."""
    return build_generator(params.arch, shape, classes, params.latent_dim, params.width, params.conditional, dtype)


def build_step(params: GanParams, shape, classes: int) -> AdversarialStep:
    """Both networks in training."""
    dtype = compute_dtype(params.precision)
    generator = build_network(params, shape, classes, dtype)
    spectral_norm = params.spectral_norm == "always"
    spectral_norm |= params.spectral_norm == "auto" and params.loss in SPECTRALLY_NORMALISED
    discriminator = build_discriminator(
        params.arch,
        shape,
        classes,
        params.width,
        params.conditional,
        dtype,
        batch_norm=params.loss not in ("wgan", "wgan-gp"),  # these ask for a function of one image
        spectral_norm=spectral_norm,
        minibatch_std=params.minibatch_std,
    )
    reads_labels_last = params.conditional and classes > 1 and params.arch != "article"
    mismatch = params.mismatch if reads_labels_last else 0.0
    options = params.model_dump(include=STEP_PARAMS)
    return AdversarialStep(generator, discriminator, mismatch=mismatch, classes=classes, **options)


class Validation:
    """The validation images in the reference space, and as many latents to measure generators with, always the same."""

    def __init__(self, params: GanParams, space: ReferenceSpace, images: Images | np.ndarray, labels: np.ndarray):
        chosen = np.random.default_rng(params.seed).permutation(len(labels))[: params.evaluate_images]
        self.space, self.labels = space, labels[chosen]
        self.real_features, _ = self.space(images[chosen])
        self.latents = draw_latents(len(chosen), params.latent_dim, params.seed + 1)
        self.groups = self.labels if params.conditional else np.zeros_like(self.labels)

    def scores(self, generator) -> dict[str, float]:
        """Frechet distance to the real images, diversity beside theirs, and the share of the images in which the
        reference sees the label."""
        features, probabilities = self.space(generate(generator, self.latents, self.labels))
        return {
            "val_fd": frechet_distance(features, self.real_features),
            "val_diversity": diversity(features, self.real_features, self.groups),
            "val_label_accuracy": accuracy(probabilities, self.labels),
        }


def draw_samples(folder: Path, step: int, images: np.ndarray, row_labels: Sequence[str]) -> Path:
    """The picture of the samples after a step, a row per class."""
    path = folder / "samples" / f"step-{step:06d}.png"
    image_grid(images, path, SAMPLES_PER_CLASS, row_labels=row_labels)
    return path


def warn_once(state: dict[str, Any], steps: int, run: tracking.Run) -> None:
    """Says, the first time, that the training collapses or diverges, and tags the run with it."""
    text = warning(state["history"], steps)
    if text and not state["warned"]:
        state["warned"] = True
        terminal.say(f"warning: {text}")
        run.tags({"warning": text})


def draw_film(path: Path, steps: Sequence[int], samples: Sequence[np.ndarray], row_labels: Sequence[str]) -> None:
    """The samples after each of the steps, one after the other."""
    frames = [
        grid_picture(images, SAMPLES_PER_CLASS, row_labels=row_labels, title=f"step {step:,} of {steps[-1]:,}")
        for step, images in zip(steps, samples, strict=True)
    ]
    write_film(frames, path, milliseconds=500, rest=2000)


def main() -> None:
    params = load_params(GanParams, "gan")
    require(REFERENCE)
    shards, labels, classes = open_shards(DATA, "train"), read_labels(DATA, "train"), read_classes(DATA)
    shape, batch_size = shards[0].shape[1:], min(params.batch_size, len(labels))
    check_side(DATA, f"gan.arch: {params.arch}", SMALLEST_SIDE[params.arch])
    val_images, val_labels = Images(DATA, "val"), read_labels(DATA, "val")
    shown = np.repeat(np.arange(min(len(classes), SHOWN_CLASSES), dtype=np.int32), SAMPLES_PER_CLASS)
    row_labels = classes[:SHOWN_CLASSES] if params.conditional else ()
    shown_latents = draw_latents(len(shown), params.latent_dim, params.seed)

    state: dict[str, Any] = {"history": [], "samples": [], "best_fd": math.inf, "best_step": 0, "best_weights": []}
    state["warned"] = False
    checkpoint = Checkpoint("train_gan", params, state)
    with (
        tracking.stage_run("train_gan", params, checkpoint) as run,
        distribution.joined(batch_size, "gan.batch_size"),
        checkpoint,
        output_folder(OUTPUT) as folder,
    ):
        (folder / "samples").mkdir()
        validation = Validation(params, ReferenceSpace(REFERENCE), val_images, val_labels)
        seed_everything(params.seed)
        with distribution.strategy().scope():
            step = build_step(params, shape, len(classes))
        for report in train(
            step,
            lambda epoch: shards,
            labels,
            batch_size=batch_size,
            steps=params.steps,
            report_every=params.evaluate_every,
            seed=params.seed,
            what="train gan",
            blame="lower gan.lr or raise gan.penalty",
            checkpoint=checkpoint,
        ):
            if not is_chief():
                continue
            averaged = step.averaged.network
            scores = validation.scores(averaged)
            state["history"].append({"step": report.step} | report.means | scores)
            state["samples"].append(generate(averaged, shown_latents, shown))
            run.metrics(report.means | scores, step=report.step)
            run.artifact(draw_samples(folder, report.step, state["samples"][-1], row_labels), "samples")
            if scores["val_fd"] < state["best_fd"] or len(state["history"]) == 1:
                state |= {"best_fd": scores["val_fd"], "best_step": report.step}
                state["best_weights"] = averaged.get_weights()
            warn_once(state, params.steps, run)
        if not is_chief():
            return
        history, best_step = state["history"], state["best_step"]
        for row, images in zip(history, state["samples"], strict=True):  # those from before an interruption, too
            draw_samples(folder, row["step"], images, row_labels)
        draw_film(folder / "training.webp", [row["step"] for row in history], state["samples"], row_labels)
        averaged = step.averaged.network
        averaged.set_weights(state["best_weights"])
        network = copy_in_float32(averaged, lambda: build_network(params, shape, len(classes)))
        metrics = validation.scores(network) | {"best_step": best_step, "weights": network.count_params()}
        save_network(network, folder / "generator.keras")
        write_table(folder / "history.csv", history)
        write_metrics(folder / "metrics.json", {"gan": metrics})
        panels = {"loss": ["d_loss", "g_loss"], "mean logit": ["d_real", "d_fake"], "Frechet distance": ["val_fd"]}
        panels["diversity (1: as real)"] = ["val_diversity"]
        learning_curves(history, "step", panels, folder / "curves.png", mark=best_step)
        run.metrics({f"best/{name}": value for name, value in metrics.items()}, step=params.steps)
        run.artifact(folder / "curves.png")
        run.artifact(folder / "training.webp")
        run.model(folder / "generator.keras")
    labelled = f"; {metrics['val_label_accuracy']:.1%} of its images show the class they should"
    terminal.say(
        f"generator: Frechet distance {metrics['val_fd']:.2f} to the validation images, best in step {best_step} of "
        f"{params.steps}" + (labelled if params.conditional else ""),
        f"look at {OUTPUT}/samples/ and {OUTPUT}/curves.png",
    )


if __name__ == "__main__":
    terminal.run_stage(main)
