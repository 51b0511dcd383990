"""Trains the classifier on the augmented views of the train set.

Reads  data/ingest (labels, val), data/augment (view e modulo views in epoch e)
Writes data/train_cnn/: model.keras, history.csv, metrics.json (validation), curves.png
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from stages.classifier.backbones import Weights, check_arch
from stages.classifier.base.networks import SMALLEST_SIDE
from stages.classifier.base.step import Optimizer
from stages.classifier.data import read_classifier_data
from stages.classifier.training import ClassifierTraining
from stages.classifier.view_averaging import TestViews
from stages.core.outputs import write_metrics, write_table
from stages.core.params import Params, load_params
from stages.drawing.plots import learning_curves
from stages.running.launcher import is_chief
from stages.running.terminal import run_stage, say
from stages.running.tracking.record import stage_run
from stages.training import distribution
from stages.training.checkpoints import Checkpoint
from stages.training.network_files import save_network
from stages.training.reports import History
from stages.training.schedules import Schedule
from stages.training.tensorflow import ScaledPrecision

DATA, VIEWS, OUTPUT = Path("data/ingest"), Path("data/augment"), Path("data/train_cnn")
CURVES = {"loss (nats)": ["loss", "val_nll"], "accuracy": ["accuracy", "val_accuracy"]}


class CnnParams(Params):
    arch: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    width: int = Field(ge=1, le=1024)
    depth: int = Field(ge=1, le=50)
    weights: Weights
    backbone_size: int | None = Field(ge=32, le=1024)
    frozen_epochs: int = Field(ge=0, le=10_000)
    finetune_lr: float = Field(gt=0, le=1)
    epochs: int = Field(ge=1, le=10_000)
    batch_size: int = Field(ge=2, le=65_536)
    lr: float = Field(gt=0, le=10)
    schedule: Schedule
    optimizer: Optimizer
    beta_2: float = Field(gt=0, lt=1)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    mixup: float = Field(ge=0, le=10)
    cutmix: float = Field(ge=0, le=10)
    class_weights: Literal["none", "balanced"]
    average: float = Field(ge=0, lt=1)
    test_views: TestViews
    patience: int = Field(ge=0, le=10_000)
    precision: ScaledPrecision
    seed: int = Field(ge=0, lt=2**31)

    @field_validator("arch", mode="before")
    @classmethod
    def _check_arch(cls, value: object) -> str:
        return check_arch(value, tuple(SMALLEST_SIDE))


def main() -> None:
    params = load_params(CnnParams, "cnn")
    data = read_classifier_data(DATA, VIEWS, params.arch)
    history = History()
    checkpoint = Checkpoint("train_cnn", params, vars(history))
    with (
        stage_run("train_cnn", params, checkpoint) as run,
        distribution.joined(min(params.batch_size, len(data.labels)), "cnn.batch_size"),
        checkpoint,
        distribution.output_folder(OUTPUT) as folder,
    ):
        training = ClassifierTraining(params, data, history)
        for epoch, values in training.epochs(checkpoint):
            run.metrics(values, step=epoch)
        if not is_chief():
            return
        network, metrics = training.result()
        save_network(network, folder / "model.keras")
        write_table(folder / "history.csv", history.rows)
        write_metrics(folder / "metrics.json", {"cnn": metrics})
        learning_curves(history.rows, "epoch", CURVES, folder / "curves.png", mark=history.best_at)
        run.metrics({f"best/{name}": value for name, value in metrics.items()}, step=len(history.rows))
        run.artifact(folder / "curves.png")
        run.model(folder / "model.keras")
    say(
        f"classifier: {metrics['val_accuracy']:.1%} of {len(data.val_labels):,} validation images correct; best epoch: "
        f"{history.best_at} of {len(history.rows)}",
        f"look at {OUTPUT}/curves.png",
    )


if __name__ == "__main__":
    run_stage(main)
