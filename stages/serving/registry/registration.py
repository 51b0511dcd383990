"""Signatures, descriptions and tags that the registry shows for each network."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.training.network_files import load_network
from stages.training.tensorflow import tf

REQUIREMENTS = ("keras", "numpy", "pandas", "tensorflow")  # besides mlflow, to load a registered model
SECONDS_PER_TIMING = 0.5


def image_signature(shape) -> dict[str, Any]:
    """uint8 images [n, *shape] in MLflow's terms."""
    return {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, *shape]}}


def describe_images(shape, classes: list[str]) -> str:
    """The size, colour and number of classes of images [*shape], in words."""
    height, width, channels = shape
    return f"of {height}x{width} px, {'grey' if channels == 1 else 'colour'}, {len(classes)} classes"


def score_tags(section: str, scores: Mapping[str, float], classes: list[str]) -> dict[str, str]:
    """Tags of a version: the class names, and the metrics of its section of metrics.json."""
    names = json.dumps(classes, ensure_ascii=False)
    listed = {"classes": names} if len(names) <= 5000 else {}  # MLflow's limit; classes.json is in the model too
    return listed | {f"metric.{section}.{key}": f"{value:.6g}" for key, value in scores.items()}


def inference_tags(path: Path) -> dict[str, str]:
    """Size of a network file, and its speed on this machine in batches of 1 and of 256 images."""
    network = load_network(path)
    one, many = (seconds_per_batch(network, size) for size in (1, 256))
    return {
        "inference.milliseconds_batch_1": f"{1000 * one:.3g}",
        "inference.images_per_second_batch_256": f"{256 / many:.3g}",
        "file_mib": f"{path.stat().st_size / 2**20:.3g}",
    }


def seconds_per_batch(network, size: int) -> float:
    """Median time that the compiled network takes for `size` images."""
    images = tf.zeros((size, *network.input_shape[1:]), network.input.dtype)
    compiled = tf.function(lambda batch: network(batch, training=False))
    compiled(images)
    times, end = list[float](), time.perf_counter() + SECONDS_PER_TIMING
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        compiled(images).numpy()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
