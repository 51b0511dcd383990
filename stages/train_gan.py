"""Trains the generator against a discriminator on the train images without augmentation, and keeps the generator with
the smallest Frechet distance to the validation images.

Reads  data/ingest (train, val), data/reference/model.keras
Writes data/train_gan/: generator.keras, history.csv, metrics.json (validation), samples/, training.webp, curves.png
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from stages.core.dataset import require
from stages.core.params import Params, load_params
from stages.generator.data import read_generator_data
from stages.generator.diff_augment import Augmentation
from stages.generator.losses import Loss
from stages.generator.networks import Arch
from stages.generator.results import summary, write_results
from stages.generator.training import GeneratorTraining
from stages.generator.validation import GeneratorHistory, warn_once
from stages.reference_network.features import ReferenceSpace
from stages.running.launcher import is_chief
from stages.running.terminal import run_stage, say
from stages.running.tracking.record import stage_run
from stages.training import distribution
from stages.training.checkpoints import Checkpoint
from stages.training.schedules import Schedule
from stages.training.tensorflow import Precision

DATA, REFERENCE, OUTPUT = Path("data/ingest"), Path("data/reference/model.keras"), Path("data/train_gan")


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
    def _check_combinations(self) -> Self:
        if self.real_label != 1 and self.loss not in ("bce", "lsgan"):
            raise ValueError(f"real_label works with the losses bce and lsgan only: set it to 1 for {self.loss}")
        if self.ada_target is not None and not self.diff_augment:
            raise ValueError("ada_target controls diff_augment, which is empty: fill it, or set ada_target to null")
        return self


def main() -> None:
    params = load_params(GanParams, "gan")
    require(REFERENCE)
    data = read_generator_data(DATA, params.arch)
    history = GeneratorHistory()
    checkpoint = Checkpoint("train_gan", params, vars(history))
    with (
        stage_run("train_gan", params, checkpoint) as run,
        distribution.joined(min(params.batch_size, len(data.labels)), "gan.batch_size"),
        checkpoint,
        distribution.output_folder(OUTPUT) as folder,
    ):
        training = GeneratorTraining(params, data, ReferenceSpace(REFERENCE), history)
        for step, values in training.evaluations(checkpoint):
            run.metrics(values, step=step)
            run.artifact(training.samples.draw(folder, step, history.samples[-1]), "samples")
            warn_once(history, params.steps, run)
        if not is_chief():
            return
        network, metrics = training.result()
        write_results(folder, network, metrics, history, training.samples)
        run.metrics({f"best/{name}": value for name, value in metrics.items()}, step=params.steps)
        run.artifact(folder / "curves.png")
        run.artifact(folder / "training.webp")
        run.model(folder / "generator.keras")
    say(summary(metrics, params.steps, params.conditional), f"look at {OUTPUT}/samples/ and {OUTPUT}/curves.png")


if __name__ == "__main__":
    run_stage(main)
