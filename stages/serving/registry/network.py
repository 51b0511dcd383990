"""Names and paths of a network that the project trains, evaluates, registers and promotes."""

from pathlib import Path
from typing import NamedTuple


class Network(NamedTuple):
    """A row of the table of networks (ops/project/networks.py)."""

    section: str  # of params.yaml, metrics.json and promotion.yaml: cnn
    model: str  # its registered model: visionloop-cnn
    file: Path  # where its training stage writes it
    serve: Path  # the code that answers predictions, copied into the registered model
    title: str  # its name in headings: Classifier
    phrase: str  # its name in a sentence: a classifier, which takes images
    input_ranks: tuple[int, ...]  # of its inputs without the batch: (3,) takes images, (1, 0) latents and a label

    @property
    def train_stage(self) -> str:
        return f"train_{self.section}"

    @property
    def evaluate_stage(self) -> str:
        return f"evaluate_{self.section}"

    @property
    def evaluation(self) -> Path:
        """The folder that its evaluation stage writes."""
        return Path("data") / self.evaluate_stage

    @property
    def metrics(self) -> Path:
        """The metrics on the test images, nested under `section`."""
        return self.evaluation / "metrics.json"
