"""Trains the network whose penultimate layer is the ruler for generated images, and a second one of another seed, which
tells whether figures hang on the first.

Reads  data/ingest (train and val), data/validate/passed
Writes data/reference/: model.keras, second.keras, history.csv (columns of the second: `second_`), metrics.json

Its recipe is fixed and depends on neither `cnn` nor `gan`, so that experiments on those share one ruler.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from stages.lib import distribution, terminal, tracking
from stages.lib.checkpoints import Checkpoint
from stages.lib.classification_metrics import accuracy, softmax
from stages.lib.classifiers import SMALLEST_SIDE
from stages.lib.dataset import Images, check_side, open_shards, read_classes, read_labels
from stages.lib.distribution import output_folder
from stages.lib.launcher import is_chief
from stages.lib.network_files import save_network
from stages.lib.outputs import write_metrics, write_table
from stages.lib.params import Params, load_params
from stages.lib.reference_training import ReferenceTraining

DATA, OUTPUT = Path("data/ingest"), Path("data/reference")
FILES = {"": "model.keras", "second_": "second.keras"}  # by the prefix of the names of its figures


class ReferenceParams(Params):
    steps: int = Field(ge=1, le=10**7)
    batch_size: int = Field(ge=2, le=4096)
    lr: float = Field(gt=0, le=1)
    seed: int = Field(ge=0, lt=2**31)
    second_seed: int = Field(ge=0, lt=2**31)

    @model_validator(mode="after")
    def _two_rulers(self) -> Self:
        if self.seed == self.second_seed:
            raise ValueError("seed and second_seed must differ, or the second network would be the first again")
        return self


def main() -> None:
    params = load_params(ReferenceParams, "reference")
    shards, labels, classes = open_shards(DATA, "train"), read_labels(DATA, "train"), read_classes(DATA)
    check_side(DATA, "reference", SMALLEST_SIDE["compact"])
    val_images, val_labels = Images(DATA, "val"), read_labels(DATA, "val")
    trained = (params, params.model_copy(update={"seed": params.second_seed}))
    checkpoints = [Checkpoint("reference", each, {"history": []}) for each in trained]
    metrics = {}
    with (
        tracking.stage_run("reference", params, checkpoints[0]) as run,
        distribution.joined(min(params.batch_size, len(labels)), "reference.batch_size"),
        ExitStack() as kept,
        output_folder(OUTPUT) as folder,
    ):
        for each, checkpoint, (prefix, file) in zip(trained, checkpoints, FILES.items(), strict=True):
            # The first training's state is kept until both are done: who interrupts the second loses neither.
            kept.enter_context(checkpoint)
            training = ReferenceTraining(
                shards,
                labels,
                len(classes),
                steps=params.steps,
                batch_size=params.batch_size,
                lr=params.lr,
                seed=each.seed,
            )
            for report in training.reports(f"{prefix}reference".replace("_", " "), "lower reference.lr", checkpoint):
                means = {f"{prefix}{name}": value for name, value in report.means.items()}
                checkpoint.memory["history"].append({"step": report.step} | means)
                run.metrics(means, step=report.step)
            if not is_chief():
                continue
            network = training.network
            metrics[f"{prefix}val_accuracy"] = accuracy(softmax(val_images.predict(network)), val_labels)
            save_network(network, folder / file)
        if not is_chief():
            return
        rows = zip(*(checkpoint.memory["history"] for checkpoint in checkpoints), strict=True)
        write_table(folder / "history.csv", [first | second for first, second in rows])
        write_metrics(folder / "metrics.json", {"reference": metrics})
        run.metrics(metrics, step=params.steps)
        run.model(folder / "model.keras")
    terminal.say(
        f"reference: recognises {metrics['val_accuracy']:.1%} of the validation images (the second network: "
        f"{metrics['second_val_accuracy']:.1%}); the ruler is ready"
    )


if __name__ == "__main__":
    terminal.run_stage(main)
