"""Registers the generator with its signature, description and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.core.dataset import image_shape, read_classes
from stages.evaluation.generator.table import NETWORK
from stages.generator.sampling import is_conditional
from stages.running.tracking.record import Run, pinned
from stages.serving.registry.registration import REQUIREMENTS, describe_images, image_signature, score_tags
from stages.training.network_files import load_network


def registered_files(data: Path) -> list[Path]:
    """The files to register with the network: its classes."""
    return [data / "classes.json"]


def register(run: Run, scores: Mapping[str, float], data: Path) -> None:
    """Registers the network with its scores on the data set in the folder `data`."""
    conditional = is_conditional(load_network(NETWORK.file))
    shape, classes = image_shape(data), read_classes(data)
    register_generator(run, NETWORK.file, registered_files(data), scores, shape, classes, conditional)


def register_generator(
    run: Run, network: Path, files: Sequence[Path], scores: Mapping[str, float], shape, classes: list[str],
    conditional: bool,
) -> None:  # fmt: skip
    """Registers a generator of images [*shape] with its scores; conditional: whether its images depend on the class."""
    run.register(
        NETWORK.model,
        network=network,
        serve=NETWORK.serve,
        files=files,
        signature={
            "inputs": [
                {"type": "string", "name": "class", "required": True},
                {"type": "long", "name": "seed", "required": True},
            ],
            "outputs": [image_signature(shape)],
            "params": [{"name": "truncation", "type": "double", "default": 1.0, "shape": None}],
        },
        example={"columns": {"class": classes[:2], "seed": [0, 1]}},
        description=f"Generator of images {describe_images(shape, classes)}. Frechet distance {scores['fd']:.3f} "
        f"(real images {scores['fd_floor']:.3f}), label accuracy {scores['label_accuracy']:.4f}, "
        f"CAS {scores['cas']:.4f}. Takes a table with `class` and `seed`, returns uint8 images."
        + ("" if conditional else " Trained without classes: it ignores `class`."),
        tags=score_tags(NETWORK.section, scores, classes),
        requirements=pinned(REQUIREMENTS),
    )
