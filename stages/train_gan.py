"""Trains the generator against a discriminator on the train images as they are, and keeps the best one by the Frechet
distance to the validation images.

Reads  data/ingest (train, val), data/reference/model.keras
Writes data/train_gan/: generator.keras, history.csv, metrics.json (validation), samples/ over time, curves.png
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from stages.lib import terminal, tracking
from stages.lib.adversarial import AdversarialStep
from stages.lib.checkpoints import Checkpoint
from stages.lib.classification_metrics import accuracy
from stages.lib.dataset import check_side, open_shards, read_classes, read_images, read_labels, require
from stages.lib.figures import learning_curves
from stages.lib.gan_losses import Loss
from stages.lib.gan_networks import SMALLEST_SIDE, Arch, build_discriminator, build_generator
from stages.lib.generation import draw_latents, generate
from stages.lib.generative_metrics import frechet_distance
from stages.lib.network_files import copy_in_float32, save_network
from stages.lib.outputs import whole_folder, write_metrics, write_table
from stages.lib.params import Params, load_params
from stages.lib.pictures import image_grid
from stages.lib.reference_space import ReferenceSpace
from stages.lib.runtime import Precision, compute_dtype, seed_everything
from stages.lib.schedules import Schedule
from stages.lib.training import train

DATA, REFERENCE, OUTPUT = Path("data/ingest"), Path("data/reference/model.keras"), Path("data/train_gan")
SAMPLES_PER_CLASS, SHOWN_CLASSES = 12, 20


class GanParams(Params):
    arch: Arch
    loss: Loss
    conditional: bool
    width: int = Field(ge=4, le=1024)
    latent_dim: int = Field(ge=1, le=4096)
    steps: int = Field(ge=1, le=10**8)
    batch_size: int = Field(ge=2, le=65_536)
    lr: float = Field(gt=0, le=1)
    schedule: Schedule
    penalty: float = Field(ge=0, le=1000)
    penalty_every: int = Field(ge=1, le=1000)
    average: float = Field(ge=0, lt=1)
    evaluate_every: int = Field(ge=1, le=10**8)
    evaluate_images: int = Field(ge=2, le=100_000)
    precision: Precision
    seed: int = Field(ge=0, lt=2**31)


def validation_scores(generator, latents, labels, space: ReferenceSpace, real_features) -> dict[str, float]:
    """Frechet distance of generated images (latents [n, d], labels [n]) to real features, and the share in which the
    reference sees the label."""
    features, probabilities = space(generate(generator, latents, labels))
    return {
        "val_fd": frechet_distance(features, real_features),
        "val_label_accuracy": accuracy(probabilities, labels),
    }


def draw_samples(folder: Path, step: int, images: np.ndarray, row_labels: Sequence[str]) -> Path:
    """The picture of the samples after a step, a row per class."""
    path = folder / "samples" / f"step-{step:06d}.png"
    image_grid(images, path, SAMPLES_PER_CLASS, row_labels=row_labels)
    return path


def main() -> None:
    params = load_params(GanParams, "gan")
    require(REFERENCE)
    shards, labels, classes = open_shards(DATA, "train"), read_labels(DATA, "train"), read_classes(DATA)
    shape, batch_size = shards[0].shape[1:], min(params.batch_size, len(labels))
    check_side(DATA, f"gan.arch: {params.arch}", SMALLEST_SIDE[params.arch])
    val_images, val_labels = read_images(DATA, "val"), read_labels(DATA, "val")
    shown = np.repeat(np.arange(min(len(classes), SHOWN_CLASSES), dtype=np.int32), SAMPLES_PER_CLASS)
    row_labels = classes[:SHOWN_CLASSES] if params.conditional else ()
    shown_latents = draw_latents(len(shown), params.latent_dim, params.seed)

    def build(dtype: str = "float32"):
        return build_generator(
            params.arch, shape, len(classes), params.latent_dim, params.width, params.conditional, dtype
        )

    state: dict[str, Any] = {"history": [], "samples": [], "best_fd": math.inf, "best_step": 0, "best_weights": []}
    checkpoint = Checkpoint("train_gan", params, state)
    with tracking.stage_run("train_gan", params, checkpoint) as run, checkpoint, whole_folder(OUTPUT) as folder:
        (folder / "samples").mkdir()
        space = ReferenceSpace(REFERENCE)
        chosen = np.random.default_rng(params.seed).permutation(len(val_labels))[: params.evaluate_images]
        real_features, _ = space(val_images[chosen])
        latents = draw_latents(len(chosen), params.latent_dim, params.seed + 1)
        seed_everything(params.seed)
        dtype = compute_dtype(params.precision)
        step = AdversarialStep(
            build(dtype),
            build_discriminator(params.arch, shape, len(classes), params.width, params.conditional, dtype),
            **params.model_dump(
                include={"steps", "loss", "lr", "schedule", "penalty", "penalty_every", "average", "seed"}
            ),
        )
        averaged = step.averaged.model
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
            scores = validation_scores(averaged, latents, val_labels[chosen], space, real_features)
            state["history"].append({"step": report.step} | report.means | scores)
            state["samples"].append(generate(averaged, shown_latents, shown))
            run.metrics(report.means | scores, step=report.step)
            run.artifact(draw_samples(folder, report.step, state["samples"][-1], row_labels), "samples")
            if scores["val_fd"] < state["best_fd"] or len(state["history"]) == 1:
                state |= {"best_fd": scores["val_fd"], "best_step": report.step}
                state["best_weights"] = averaged.get_weights()
        history, best_step = state["history"], state["best_step"]
        for row, images in zip(history, state["samples"], strict=True):  # those from before an interruption, too
            draw_samples(folder, row["step"], images, row_labels)
        averaged.set_weights(state["best_weights"])
        network = copy_in_float32(averaged, build)
        metrics = validation_scores(network, latents, val_labels[chosen], space, real_features)
        metrics |= {"best_step": best_step, "weights": network.count_params()}
        save_network(network, folder / "generator.keras")
        write_table(folder / "history.csv", history)
        write_metrics(folder / "metrics.json", {"gan": metrics})
        panels = {"loss": ["d_loss", "g_loss"], "mean logit": ["d_real", "d_fake"], "Frechet distance": ["val_fd"]}
        learning_curves(history, "step", panels, folder / "curves.png", mark=best_step)
        run.metrics({f"best/{name}": value for name, value in metrics.items()}, step=params.steps)
        run.artifact(folder / "curves.png")
        run.model(folder / "generator.keras")
    labelled = f"; {metrics['val_label_accuracy']:.1%} of its images show the class they should"
    terminal.say(
        f"generator: Frechet distance {metrics['val_fd']:.2f} to the validation images, best in step {best_step} of "
        f"{params.steps}" + (labelled if params.conditional else ""),
        f"look at {OUTPUT}/samples/ and {OUTPUT}/curves.png",
    )


if __name__ == "__main__":
    terminal.run_stage(main)
