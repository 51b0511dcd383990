"""What tests of the gate share."""

import numpy as np

from ops.promote.gate.decision import Decision, Line


def sure(predicted: np.ndarray, classes: int, confidence: float = 0.9) -> np.ndarray:
    """Probabilities [n, classes] of a classifier that gives every prediction the same confidence."""
    probabilities = np.full((len(predicted), classes), (1 - confidence) / (classes - 1))
    probabilities[np.arange(len(predicted)), predicted] = confidence
    return probabilities


def line(decision: Decision, metric: str) -> Line:
    return next(line for line in decision.lines if line.metric == metric)
