"""Registers the classifier with its signature, description and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.core.dataset import image_shape, read_classes
from stages.evaluation.classifier.table import NETWORK
from stages.running.tracking.record import Run, pinned
from stages.serving.registry.registration import (
    REQUIREMENTS,
    describe_images,
    image_signature,
    inference_tags,
    score_tags,
)


def registered_files(data: Path) -> list[Path]:
    """The files to register with the network: its classes, and the temperature and outlier detector where the stage has
    written them."""
    serving = NETWORK.evaluation / "serving.npz"
    return [data / "classes.json", *([serving] if serving.exists() else [])]


def register(run: Run, scores: Mapping[str, float], data: Path) -> None:
    """Registers the network with its scores on the data set in the folder `data`."""
    register_classifier(run, NETWORK.file, registered_files(data), scores, image_shape(data), read_classes(data))


def register_classifier(
    run: Run, network: Path, files: Sequence[Path], scores: Mapping[str, float], shape, classes: list[str]
) -> None:
    """Registers a classifier of images [*shape] with its scores, its size and its speed on this machine."""
    probabilities = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, len(classes)]}}
    run.register(
        NETWORK.model,
        network=network,
        serve=NETWORK.serve,
        files=files,
        signature={
            "inputs": [image_signature(shape)],
            "outputs": [probabilities],
            "params": [{"name": "outlier_scores", "type": "boolean", "default": False, "shape": None}],
        },
        example={"dtype": "uint8", "data": np.zeros((1, *shape), int).tolist()},
        description=f"Classifier of images {describe_images(shape, classes)}. Test accuracy {scores['accuracy']:.4f}, "
        f"macro F1 {scores['macro_f1']:.4f}, ECE {scores.get('ece_calibrated', scores['ece']):.4f}. "
        "Takes uint8 images [n, height, width, channels], returns class probabilities.",
        tags=score_tags(NETWORK.section, scores, classes) | (inference_tags(network) if run.folder else {}),
        requirements=pinned(REQUIREMENTS),
    )
