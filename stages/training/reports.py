"""The reports of a running training, and the history of evaluations that a stage keeps."""

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Report:
    """Progress of a training: steps done, epochs done, and means of the step's metrics since the previous report."""

    step: int
    epoch: float
    means: dict[str, float]


@dataclass
class History:
    """The evaluations of a training so far, and the weights of the best one.

    A stage passes `vars(history)` to its Checkpoint as the memory: the fields are saved with the training, and restored
    when it resumes. They are JSON values and lists of arrays.
    """

    rows: list[dict[str, float]] = field(default_factory=list)  # one for each evaluation
    best_score: float = math.inf  # lower is better
    best_at: int = 0  # the step or epoch of the best evaluation
    best_weights: list[np.ndarray] = field(default_factory=list)

    def add(self, row: dict[str, float], at: int, score: float, network) -> None:
        """Appends an evaluation of `network`, and keeps its weights when its score is the lowest so far."""
        self.rows.append(row)
        if score < self.best_score or len(self.rows) == 1:
            self.best_score, self.best_at, self.best_weights = score, at, network.get_weights()
