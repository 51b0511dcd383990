"""Trains the classifier on the augmented views of the train set.

Reads  data/ingest (labels, val), data/augment (view e modulo views in epoch e)
Writes data/train_cnn/: model.keras, history.csv, metrics.json (validation), curves.png
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from stages.lib import terminal, tracking
from stages.lib.checkpoints import Checkpoint
from stages.lib.classification import ClassifierStep
from stages.lib.classification_metrics import accuracy, negative_log_likelihood, softmax
from stages.lib.classifiers import SMALLEST_SIDE, Arch, build_classifier
from stages.lib.dataset import check_side, open_shards, read_classes, read_images, read_labels, require
from stages.lib.figures import learning_curves
from stages.lib.network_files import copy_in_float32, save_network
from stages.lib.outputs import whole_folder, write_metrics, write_table
from stages.lib.params import Params, load_params
from stages.lib.runtime import Precision, compute_dtype, seed_everything
from stages.lib.schedules import Schedule
from stages.lib.training import steps_per_epoch, train

DATA, VIEWS, OUTPUT = Path("data/ingest"), Path("data/augment"), Path("data/train_cnn")


class CnnParams(Params):
    arch: Arch
    width: int = Field(ge=1, le=1024)
    epochs: int = Field(ge=1, le=10_000)
    batch_size: int = Field(ge=2, le=65_536)
    lr: float = Field(gt=0, le=10)
    schedule: Schedule
    weight_decay: float = Field(ge=0, le=1)
    beta_2: float = Field(gt=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    average: float = Field(ge=0, lt=1)
    patience: int = Field(ge=0, le=10_000)
    precision: Precision
    seed: int = Field(ge=0, lt=2**31)


def validation_scores(network, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and negative log-likelihood (nats) of a classifier on uint8 images [n, h, w, c] with labels [n]."""
    probabilities = softmax(network.predict(images, batch_size=512, verbose=0))
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
    check_side(DATA, f"cnn.arch: {params.arch}", SMALLEST_SIDE[params.arch])
    val_images, val_labels = read_images(DATA, "val"), read_labels(DATA, "val")

    def build(dtype: str = "float32"):
        return build_classifier(params.arch, shape, len(classes), params.width, dtype)

    state: dict[str, Any] = {"history": [], "best_nll": math.inf, "best_epoch": 0, "best_weights": []}
    checkpoint = Checkpoint("train_cnn", params, state)
    with tracking.stage_run("train_cnn", params, checkpoint) as run, checkpoint, whole_folder(OUTPUT) as folder:
        seed_everything(params.seed)
        per_epoch = steps_per_epoch(views[0], batch_size)
        step = ClassifierStep(
            build(compute_dtype(params.precision)),
            steps=params.epochs * per_epoch,
            **params.model_dump(include={"lr", "schedule", "weight_decay", "beta_2", "label_smoothing", "average"}),
        )
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
            scores = validation_scores(step.averaged.model, val_images, val_labels)
            epoch = len(state["history"]) + 1
            state["history"].append({"epoch": epoch} | report.means | scores)
            run.metrics(report.means | scores, step=epoch)
            if scores["val_nll"] < state["best_nll"] or epoch == 1:
                state |= {"best_nll": scores["val_nll"], "best_epoch": epoch}
                state["best_weights"] = step.averaged.model.get_weights()
            if params.patience and epoch - state["best_epoch"] >= params.patience:
                break
        history, best_epoch = state["history"], state["best_epoch"]
        step.averaged.model.set_weights(state["best_weights"])
        network = copy_in_float32(step.averaged.model, build)
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
