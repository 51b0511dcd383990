"""Trains the reference network, whose features score generated images, and a second one with another seed, which checks
that the scores do not depend on the first.

Reads  data/ingest (train and val), data/validate/passed
Writes data/reference/: model.keras, second.keras, history.csv (columns of the second: `second_`), metrics.json

Its recipe is fixed and depends on neither `cnn` nor `gan`, so that experiments on those share one reference.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from stages.classifier.base.networks import SMALLEST_SIDE
from stages.core.dataset import Images, check_side, open_shards, read_classes, read_labels
from stages.core.outputs import write_metrics, write_table
from stages.core.params import Params, load_params
from stages.reference_network.training import ReferenceTraining
from stages.running.launcher import is_chief
from stages.running.terminal import run_stage, say
from stages.running.tracking.record import stage_run
from stages.training import distribution
from stages.training.checkpoints import Checkpoint
from stages.training.network_files import save_network
from stages.training.reports import History
from stages.training.scores import accuracy, softmax

DATA, OUTPUT = Path("data/ingest"), Path("data/reference")
FILES = {"": "model.keras", "second_": "second.keras"}  # by the prefix of their metrics


class ReferenceParams(Params):
    steps: int = Field(ge=1, le=10**7)
    batch_size: int = Field(ge=2, le=4096)
    lr: float = Field(gt=0, le=1)
    seed: int = Field(ge=0, lt=2**31)
    second_seed: int = Field(ge=0, lt=2**31)

    @model_validator(mode="after")
    def _check_seeds(self) -> Self:
        if self.seed == self.second_seed:
            raise ValueError("seed and second_seed must differ, because equal seeds train the same network twice")
        return self


def main() -> None:
    params = load_params(ReferenceParams, "reference")
    shards, labels, classes = open_shards(DATA, "train"), read_labels(DATA, "train"), read_classes(DATA)
    check_side(DATA, "reference", SMALLEST_SIDE["compact"])
    val_images, val_labels = Images(DATA, "val"), read_labels(DATA, "val")
    seeds = {"": params.seed, "second_": params.second_seed}
    histories = {prefix: History() for prefix in FILES}
    checkpoints = {
        prefix: Checkpoint("reference", params.model_copy(update={"seed": seed}), vars(histories[prefix]))
        for prefix, seed in seeds.items()
    }
    metrics = {}
    with (
        stage_run("reference", params, checkpoints[""]) as run,
        distribution.joined(min(params.batch_size, len(labels)), "reference.batch_size"),
        ExitStack() as stack,
        distribution.output_folder(OUTPUT) as folder,
    ):
        for prefix, file in FILES.items():
            # Both checkpoints stay until both trainings are done, so that an interrupted second one loses neither.
            checkpoint = stack.enter_context(checkpoints[prefix])
            training = ReferenceTraining(
                shards,
                labels,
                len(classes),
                steps=params.steps,
                batch_size=params.batch_size,
                lr=params.lr,
                seed=seeds[prefix],
            )
            for report in training.reports(f"{prefix}reference".replace("_", " "), "lower reference.lr", checkpoint):
                means = {f"{prefix}{name}": value for name, value in report.means.items()}
                histories[prefix].rows.append({"step": report.step} | means)
                run.metrics(means, step=report.step)
            if is_chief():
                network = training.network
                metrics[f"{prefix}val_accuracy"] = accuracy(softmax(val_images.predict(network)), val_labels)
                save_network(network, folder / file)
        if not is_chief():
            return
        rows = zip(*(history.rows for history in histories.values()), strict=True)
        write_table(folder / "history.csv", [first | second for first, second in rows])
        write_metrics(folder / "metrics.json", {"reference": metrics})
        run.metrics(metrics, step=params.steps)
        run.model(folder / "model.keras")
    say(
        f"reference: classifies {metrics['val_accuracy']:.1%} of the validation images correctly (second network: "
        f"{metrics['second_val_accuracy']:.1%})"
    )


if __name__ == "__main__":
    run_stage(main)
