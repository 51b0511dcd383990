"""Trains the network whose penultimate layer is the ruler for generated images.

Reads  data/ingest (train and val), data/validate/passed
Writes data/reference/: model.keras, history.csv, metrics.json

Its recipe is fixed and depends on neither `cnn` nor `gan`, so that experiments on those share one ruler.
"""

from pathlib import Path
from typing import Any

from pydantic import Field

from stages.lib import terminal, tracking
from stages.lib.checkpoints import Checkpoint
from stages.lib.classification_metrics import accuracy, softmax
from stages.lib.classifiers import SMALLEST_SIDE
from stages.lib.dataset import check_side, open_shards, read_classes, read_images, read_labels
from stages.lib.network_files import save_network
from stages.lib.outputs import whole_folder, write_metrics, write_table
from stages.lib.params import Params, load_params
from stages.lib.reference_training import ReferenceTraining

DATA, OUTPUT = Path("data/ingest"), Path("data/reference")


class ReferenceParams(Params):
    steps: int = Field(ge=1, le=10**7)
    batch_size: int = Field(ge=2, le=4096)
    lr: float = Field(gt=0, le=1)
    seed: int = Field(ge=0, lt=2**31)


def main() -> None:
    params = load_params(ReferenceParams, "reference")
    shards, labels, classes = open_shards(DATA, "train"), read_labels(DATA, "train"), read_classes(DATA)
    check_side(DATA, "reference", SMALLEST_SIDE["compact"])
    state: dict[str, Any] = {"history": []}
    checkpoint = Checkpoint("reference", params, state)
    with tracking.stage_run("reference", params, checkpoint) as run, checkpoint, whole_folder(OUTPUT) as folder:
        training = ReferenceTraining(shards, labels, len(classes), **params.model_dump())
        for report in training.reports("reference", "lower reference.lr", checkpoint):
            state["history"].append({"step": report.step} | report.means)
            run.metrics(report.means, step=report.step)
        network = training.network
        probabilities = softmax(network.predict(read_images(DATA, "val"), batch_size=512, verbose=0))
        metrics = {"val_accuracy": accuracy(probabilities, read_labels(DATA, "val"))}
        save_network(network, folder / "model.keras")
        write_table(folder / "history.csv", state["history"])
        write_metrics(folder / "metrics.json", {"reference": metrics})
        run.metrics(metrics, step=params.steps)
        run.model(folder / "model.keras")
    terminal.say(f"reference: recognises {metrics['val_accuracy']:.1%} of the validation images; the ruler is ready")


if __name__ == "__main__":
    terminal.run_stage(main)
