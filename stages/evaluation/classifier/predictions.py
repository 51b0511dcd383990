"""predictions.csv: the classifier's outputs for each test image, with the name of the image in the data set."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


def prediction_columns(classes: Sequence[str]) -> list[str]:
    """The columns; those of the probabilities have the same names as in the output of `predict`."""
    return ["source", "class", "predicted", "confidence", "outlier_score", *(f"p_{name}" for name in classes)]


def prediction_rows(
    sources: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    outlier_scores: np.ndarray,
    classes: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """A row for each of n images, in the order of the shards of the split.

    sources: paths inside the data set. labels: int [n]. probabilities: float64 [n, classes], calibrated.
    outlier_scores: float64 [n], above 0 where an image resembles the train images less than most validation images do.
    """
    columns, predicted = prediction_columns(classes)[5:], probabilities.argmax(axis=1)
    for index, source in enumerate(sources):
        row = probabilities[index].tolist()
        yield {
            "source": source,
            "class": classes[labels[index]],
            "predicted": classes[predicted[index]],
            "confidence": row[predicted[index]],
            "outlier_score": float(outlier_scores[index]),
            **dict(zip(columns, row, strict=True)),
        }
