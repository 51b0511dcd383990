"""Training the reference network: a classifier of fixed architecture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stages.classifier.base.networks import build_classifier
from stages.classifier.base.step import ClassifierStep
from stages.training.checkpoints import Checkpoint
from stages.training.distribution import strategy
from stages.training.loop import train
from stages.training.network_files import copy_in_float32
from stages.training.reports import Report
from stages.training.tensorflow import compute_dtype, seed_everything

WIDTH = 32


class ReferenceTraining:
    """Trains the reference network: one recipe for the reference and for the classifiers that evaluation trains.

    shards: uint8 [n, height, width, channels] each; labels: int32 in the same order. `reports` runs the training;
    `network` is then the result, in float32.
    """

    def __init__(
        self,
        shards: list[np.ndarray],
        labels: np.ndarray,
        classes: int,
        *,
        steps: int,
        batch_size: int,
        lr: float,
        seed: int,
    ):
        seed_everything(seed)
        self.shards, self.labels, self.classes, self.seed = shards, labels, classes, seed
        self.batch_size, self.steps = min(batch_size, len(labels)), steps
        with strategy().scope():
            self.step = ClassifierStep(
                build_classifier("compact", self.shape, classes, WIDTH, compute_dtype("auto")),
                steps=steps,
                lr=lr,
                schedule="one_cycle",
                weight_decay=0.02,
                beta_2=0.99,
                label_smoothing=0.1,
                average=0.0,
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.shards[0].shape[1:]

    @property
    def network(self):
        build = lambda: build_classifier("compact", self.shape, self.classes, WIDTH)  # noqa: E731
        return copy_in_float32(self.step.model, build)

    def reports(self, label: str, divergence_hint: str, checkpoint: Checkpoint | None = None) -> Iterator[Report]:
        return train(
            self.step,
            lambda epoch: self.shards,
            self.labels,
            batch_size=self.batch_size,
            steps=self.steps,
            report_every=max(1, self.steps // 10),
            seed=self.seed,
            label=label,
            divergence_hint=divergence_hint,
            checkpoint=checkpoint,
        )
