"""What a user of the registry is told of the two networks."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib import tracking
from stages.lib.network_files import load_network
from stages.lib.runtime import tf

SERVING_REQUIREMENTS = ("keras", "numpy", "pandas", "tensorflow")
SECONDS_PER_TIMING = 0.5


def register_classifier(
    run: tracking.Run, network: Path, files: Sequence[Path], scores: Mapping[str, float], shape, classes: list[str]
) -> None:
    """Registers a classifier of images [*shape] with its scores, its size and how fast it is on this machine."""
    probabilities = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, len(classes)]}}
    run.register(
        "visionloop-cnn",
        network=network,
        serve=Path("stages/lib/serve_classifier.py"),
        files=files,
        signature={
            "inputs": [_images(shape)],
            "outputs": [probabilities],
            "params": [{"name": "outlier_scores", "type": "boolean", "default": False, "shape": None}],
        },
        example={"dtype": "uint8", "data": np.zeros((1, *shape), int).tolist()},
        description=f"Classifier of images {_of(shape, classes)}. Test accuracy {scores['accuracy']:.4f}, "
        f"macro F1 {scores['macro_f1']:.4f}, ECE {scores.get('ece_calibrated', scores['ece']):.4f}. "
        "Takes uint8 images [n, height, width, channels], gives class probabilities.",
        tags=_tags("cnn", scores, classes) | (inference_tags(network) if run.folder else {}),
        requirements=tracking.pinned(SERVING_REQUIREMENTS),
    )


def register_generator(
    run: tracking.Run, network: Path, files: Sequence[Path], scores: Mapping[str, float], shape, classes: list[str],
    conditional: bool,
) -> None:  # fmt: skip
    """Registers a generator of images [*shape] with its scores; conditional: whether it can be asked for a class."""
    run.register(
        "visionloop-gan",
        network=network,
        serve=Path("stages/lib/serve_generator.py"),
        files=files,
        signature={
            "inputs": [
                {"type": "string", "name": "class", "required": True},
                {"type": "long", "name": "seed", "required": True},
            ],
            "outputs": [_images(shape)],
            "params": [{"name": "truncation", "type": "double", "default": 1.0, "shape": None}],
        },
        example={"columns": {"class": classes[:2], "seed": [0, 1]}},
        description=f"Generator of images {_of(shape, classes)}. Frechet distance {scores['fd']:.3f} "
        f"(real images {scores['fd_floor']:.3f}), label accuracy {scores['label_accuracy']:.4f}, "
        f"CAS {scores['cas']:.4f}. Takes a table with `class` and `seed`, gives uint8 images."
        + ("" if conditional else " Trained without classes: it ignores `class`."),
        tags=_tags("gan", scores, classes),
        requirements=tracking.pinned(SERVING_REQUIREMENTS),
    )


def inference_tags(path: Path) -> dict[str, str]:
    """Size of a network file, and its speed on this machine for one image and for 256 at a time."""
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


def _images(shape) -> dict[str, Any]:
    return {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, *shape]}}


def _of(shape, classes: list[str]) -> str:
    height, width, channels = shape
    return f"of {height}x{width} px, {'grey' if channels == 1 else 'colour'}, {len(classes)} classes"


def _tags(section: str, scores: Mapping[str, float], classes: list[str]) -> dict[str, str]:
    names = json.dumps(classes, ensure_ascii=False)
    listed = {"classes": names} if len(names) <= 5000 else {}  # MLflow's limit; classes.json is in the model too
    return listed | {f"metric.{section}.{key}": f"{value:.6g}" for key, value in scores.items()}
