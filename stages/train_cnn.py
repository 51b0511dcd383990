"""Trains the classifier on the augmented views of the train set.

Reads  data/ingest (labels, val), data/augment (view e modulo views in epoch e)
Writes data/train_cnn/: model.keras, history.csv, metrics.json (validation), curves.png
"""

import math
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from stages.lib import distribution, terminal, tracking
from stages.lib.backbones import Weights, build_backbone_classifier, check_arch, find_backbone
from stages.lib.checkpoints import Checkpoint
from stages.lib.classification import ClassifierStep, Optimizer, balanced_weights
from stages.lib.classification_metrics import accuracy, negative_log_likelihood, softmax
from stages.lib.classifiers import SMALLEST_SIDE, build_classifier
from stages.lib.dataset import Images, check_side, open_shards, read_classes, read_labels, require
from stages.lib.distribution import output_folder
from stages.lib.figures import learning_curves
from stages.lib.fine_tuning import FineTuningStep
from stages.lib.launcher import is_chief
from stages.lib.mixing import Mixing
from stages.lib.network_files import copy_in_float32, save_network
from stages.lib.outputs import write_metrics, write_table
from stages.lib.params import Params, load_params
from stages.lib.runtime import ScaledPrecision, compute_dtype, seed_everything
from stages.lib.schedules import Schedule
from stages.lib.terminal import UserError
from stages.lib.training import steps_per_epoch, train
from stages.lib.view_averaging import TestViews, average_over_views

DATA, VIEWS, OUTPUT = Path("data/ingest"), Path("data/augment"), Path("data/train_cnn")


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
    def _known(cls, value: object) -> str:
        return check_arch(value, tuple(SMALLEST_SIDE))


def build_network(params: CnnParams, shape, classes: int, *, dtype: str = "float32", weights: Weights = "none"):
    """The network for uint8 images [n, *shape]; only a backbone takes `weights`."""
    if params.arch in SMALLEST_SIDE:
        return build_classifier(params.arch, shape, classes, params.width, dtype, params.depth)  # type: ignore[arg-type]
    side = params.backbone_size
    return build_backbone_classifier(params.arch, shape, classes, weights=weights, side=side, dtype=dtype)


def build_step(params: CnnParams, shape, labels: np.ndarray, classes: int, per_epoch: int) -> ClassifierStep:
    """The network in training; labels int [n] of the train images, `per_epoch` steps an epoch."""
    dtype = compute_dtype(params.precision, scales_loss=distribution.replicas() == 1)
    model = build_network(params, shape, classes, dtype=dtype, weights=params.weights)
    options: dict[str, Any] = params.model_dump(
        include={"lr", "schedule", "optimizer", "weight_decay", "beta_2", "momentum", "label_smoothing", "average"}
    )
    options["steps"] = params.epochs * per_epoch
    if params.class_weights == "balanced":
        options["class_weights"] = balanced_weights(labels, classes)
    if params.mixup or params.cutmix:
        options["mix"] = Mixing(params.mixup, params.cutmix, params.seed)
    if find_backbone(params.arch) and params.weights == "imagenet":
        frozen_steps = params.frozen_epochs * per_epoch
        return FineTuningStep(model, frozen_steps=frozen_steps, finetune_lr=params.finetune_lr, **options)
    return ClassifierStep(model, **options)


def validation_scores(network, images: Images, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and negative log-likelihood (nats) of a classifier on images with labels [n]."""
    probabilities = softmax(images.predict(network))
    return {
        "val_accuracy": accuracy(probabilities, labels),
        "val_nll": negative_log_likelihood(probabilities, labels),
    }


def main() -> None:
    params = load_params(CnnParams, "cnn")
    require(VIEWS)
    views = [open_shards(view, "train") for view in sorted(VIEWS.glob("view-*"))]
    labels, classes = read_labels(DATA, "train"), read_classes(DATA)
    shape, batch_size = views[0][0].shape[1:], min(params.batch_size, len(labels))
    check_side(DATA, f"cnn.arch: {params.arch}", SMALLEST_SIDE.get(params.arch, 1))
    val_images, val_labels = Images(DATA, "val"), read_labels(DATA, "val")

    state: dict[str, Any] = {"history": [], "best_nll": math.inf, "best_epoch": 0, "best_weights": []}
    checkpoint = Checkpoint("train_cnn", params, state)
    with (
        tracking.stage_run("train_cnn", params, checkpoint) as run,
        distribution.joined(batch_size, "cnn.batch_size"),
        checkpoint,
        output_folder(OUTPUT) as folder,
    ):
        if params.precision == "float16" and distribution.replicas() > 1:
            raise UserError("cnn.precision float16 scales its loss, which one GPU alone can do: set it to auto")
        seed_everything(params.seed)
        per_epoch = steps_per_epoch(views[0], batch_size)
        with distribution.strategy().scope():
            step = build_step(params, shape, labels, len(classes), per_epoch)
        for report in train(
            step,
            lambda epoch: views[epoch % len(views)],
            labels,
            batch_size=batch_size,
            steps=params.epochs * per_epoch,
            report_every=per_epoch,
            seed=params.seed,
            what="train cnn",
            blame="lower cnn.lr",
            checkpoint=checkpoint,
        ):
            network = step.averaged.network
            scores = distribution.from_chief(partial(validation_scores, network, val_images, val_labels))
            epoch = len(state["history"]) + 1
            state["history"].append({"epoch": epoch} | report.means | scores)
            run.metrics(report.means | scores, step=epoch)
            if scores["val_nll"] < state["best_nll"] or epoch == 1:
                state |= {"best_nll": scores["val_nll"], "best_epoch": epoch}
                state["best_weights"] = network.get_weights()
            if params.patience and epoch - state["best_epoch"] >= params.patience:
                break
        if not is_chief():
            return
        history, best_epoch = state["history"], state["best_epoch"]
        network = step.averaged.network
        network.set_weights(state["best_weights"])
        network = copy_in_float32(network, lambda: build_network(params, shape, len(classes)))
        network = average_over_views(network, params.test_views)
        metrics = validation_scores(network, val_images, val_labels)
        metrics |= {"best_epoch": best_epoch, "weights": network.count_params()}
        save_network(network, folder / "model.keras")
        write_table(folder / "history.csv", history)
        write_metrics(folder / "metrics.json", {"cnn": metrics})
        learning_curves(
            history,
            "epoch",
            {"loss (nats)": ["loss", "val_nll"], "accuracy": ["accuracy", "val_accuracy"]},
            folder / "curves.png",
            mark=best_epoch,
        )
        run.metrics({f"best/{name}": value for name, value in metrics.items()}, step=len(history))
        run.artifact(folder / "curves.png")
        run.model(folder / "model.keras")
    terminal.say(
        f"classifier: {metrics['val_accuracy']:.1%} of {len(val_labels):,} validation images right, best in epoch "
        f"{best_epoch} of {len(history)}",
        f"look at {OUTPUT}/curves.png",
    )


if __name__ == "__main__":
    terminal.run_stage(main)
