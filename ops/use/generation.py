"""Generation of images: writes PNG files of classes, of interpolations, and a grid of them."""

import argparse
import math
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ops.project.networks import GAN
from ops.use.interpolation import between_classes, spherical
from ops.use.models import Model, find_model
from stages.core.outputs import atomic_folder
from stages.drawing.grids import image_grid
from stages.running import terminal
from stages.running.terminal import Progress, UserError
from stages.training.network_files import load_network

BATCH_SIZE = 256  # images in memory
SHOWN, SHOWN_PER_CLASS = 100, 12  # images in grid.png: of a single class, and of each of several classes
LISTED = 30  # class names in an error


def requested_labels(model: Model, names: Sequence[str] | None) -> list[int]:
    """The labels of the requested classes, of all classes by default; a single 0 when the network has no classes.

    Raises UserError for an unknown class.
    """
    if not model.conditional:
        if names:
            raise UserError(f"{model.description} was trained without classes: leave out --class")
        return [0]
    if unknown := [name for name in names or [] if name not in model.classes]:
        known = ", ".join(model.classes[:LISTED]) + (", ..." if len(model.classes) > LISTED else "")
        raise UserError(f"no such class: {', '.join(unknown)}; the classes of {model.description} are {known}")
    return list(dict.fromkeys(map(model.classes.index, names))) if names else list(range(len(model.classes)))


def requested_seeds(ends: Sequence[str], model: Model) -> list[int]:
    """The ends of an interpolation as seeds. Raises UserError when they are not."""
    for end in ends:
        if not re.fullmatch(r"[0-9]{1,18}", end):
            why = "with --class" if model.conditional else f"{model.description} was trained without classes, so"
            raise UserError(f"--interpolate {' '.join(ends)}: {why} A and B are seeds, 0 or more, but {end!r} is not")
    return [int(end) for end in ends]


def file_names(model: Model) -> list[str]:
    """For each class, a file name that is valid on every file system."""
    if not model.conditional:
        return ["image"]
    found = list[str]()
    for label, name in enumerate(model.classes):
        plain = re.sub(r"[^\w.+-]+", "_", name).strip("._")[:80] or "class"
        while plain.casefold() in map(str.casefold, found):
            plain = f"{plain}-{label}"
        found.append(plain)
    return found


@contextmanager
def filled_folder(path: Path, force: bool) -> Iterator[Path]:
    """Yields an empty folder; moves its files to `path` when the block ends without an error, and else drops them.

    Raises UserError when `path` holds files and `force` is false, and when it cannot be written.
    """
    path = path.absolute()
    if path.suffix.lower() == ".png" or path.is_file():
        raise UserError(f"--out {path}: expected a folder for grid.png and the images")
    if path.is_dir() and any(path.iterdir()) and not force:
        raise UserError(f"{path} holds files: name another folder, or overwrite files of equal names with --force")
    try:
        if not path.exists():
            with atomic_folder(path) as folder:
                yield folder
            return
        with atomic_folder(path / ".new") as folder:
            yield folder
        try:
            for new in sorted(path.glob(".new/**/*.png")):
                target = path / new.relative_to(path / ".new")
                target.parent.mkdir(exist_ok=True)
                new.replace(target)
        finally:
            shutil.rmtree(path / ".new", ignore_errors=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


def load_generator(model: Model) -> Any:
    """The network with the serving code of a registered model."""
    network = load_network(model.network)  # first, so that TensorFlow starts as in the stages
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Recorded and dropped, because MLflow overrides the filter for its advice to add type hints.
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        from stages.serving.generator.model import Generator
    generator = Generator()
    generator.network, generator.classes = network, model.classes
    return generator


def save_image(pixels: np.ndarray, path: Path) -> None:
    """Writes uint8 [height, width, 1 or 3] as PNG."""
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path, "PNG")


def write_images(folder: Path, generator: Any, model: Model, labels: list[int], options: argparse.Namespace) -> None:
    """Writes `count` images of each label, and the grid; with --grid only the grid."""
    names, several = file_names(model), len(labels) > 1
    shown_count = options.count if options.grid else SHOWN_PER_CLASS if several else SHOWN
    shown = list[np.ndarray]()
    with Progress("generate", len(labels) * options.count, "images") as bar:
        for label in labels:
            class_folder = folder / names[label] if several else folder
            for start in range(0, options.count, BATCH_SIZE):
                numbers = range(start, min(start + BATCH_SIZE, options.count))
                latents = generator.latents([options.seed + number for number in numbers], options.truncation)
                images = generator.images(latents, np.full(len(latents), label, np.int32))
                shown.extend(images[: max(0, shown_count - start)])
                if not options.grid:
                    for number, pixels in zip(numbers, images, strict=True):
                        save_image(pixels, class_folder / f"{names[label]}-{number:04d}.png")
                bar.advance(len(images))
    seeds = [str(options.seed + number) for number in range(min(shown_count, options.count))]
    path, text = folder / "grid.png", title(model, labels, options)
    if several or options.grid:
        rows = [model.classes[label] for label in labels] if model.conditional else []
        image_grid(np.stack(shown), path, len(seeds), row_labels=rows, column_labels=seeds, title=text, tile=64)
    else:
        columns = min(10, math.ceil(math.sqrt(len(shown))))
        image_grid(np.stack(shown), path, columns, captions=seeds, title=text, tile=64)


def write_interpolations(
    folder: Path, generator: Any, model: Model, labels: list[int], options: argparse.Namespace
) -> None:
    """Writes the images of each interpolation, and the grid with a row for each interpolation."""
    names = file_names(model)
    if options.classes or not model.conditional:
        first, last = requested_seeds(options.interpolate, model)
        ends = generator.latents([first, last], options.truncation)
        latents = spherical(ends[0], ends[1], options.steps)
        sequences = [generator.images(latents, np.full(options.steps, label, np.int32)) for label in labels]
        row_labels = [model.classes[label] for label in labels] if model.conditional else []
        files = [names[label] for label in labels]
    else:
        latents = generator.latents([options.seed + number for number in range(options.count)], options.truncation)
        a, b = labels
        columns = between_classes(generator.network, generator.images, latents, a, b, options.steps)
        sequences = list(np.stack(columns, axis=1))
        row_labels = [f"seed {options.seed + number}" for number in range(options.count)]
        files = [f"{names[a]}-{names[b]}-{number:04d}" for number in range(options.count)]
    for name, sequence in zip(files, sequences, strict=True):
        for step, pixels in enumerate(sequence):
            save_image(pixels, folder / f"{name}-{step:03d}.png")
    shown, text = np.concatenate(sequences), title(model, labels, options)
    image_grid(shown, folder / "grid.png", options.steps, row_labels=row_labels, title=text, tile=64)


def title(model: Model, labels: list[int], options: argparse.Namespace) -> str:
    """The grid's title."""
    if options.interpolate:
        between_seeds = options.classes or not model.conditional
        kind, (first, last) = "seed" if between_seeds else "class", options.interpolate
        text = f"from {kind} {first} to {kind} {last}"
    elif len(labels) > 1 or options.grid:
        text = "a column for each seed"
    else:
        text = (f"class {model.classes[labels[0]]}, " if model.conditional else "") + "each with its seed"
    return text + (f", truncation {options.truncation:g}" if options.truncation < 1 else "")


def generate(options: argparse.Namespace) -> None:
    """Generates the images that the options of `visionloop generate` request. Raises UserError for an unknown class."""
    with filled_folder(options.out, options.force) as folder, find_model(GAN, options.model) as model:
        between_class_pair = options.interpolate and model.conditional and not options.classes
        if options.interpolate and not between_class_pair:
            requested_seeds(options.interpolate, model)  # reports a mistake before TensorFlow is loaded, which is slow
        labels = requested_labels(model, options.interpolate if between_class_pair else options.classes)
        if between_class_pair and len(labels) == 1:
            raise UserError(f"--interpolate {' '.join(options.interpolate)}: expected two classes")
        terminal.say(f"generator: {model.description}")
        generator = load_generator(model)
        (write_interpolations if options.interpolate else write_images)(folder, generator, model, labels, options)
        count = sum(1 for _ in folder.rglob("*.png")) - 1
    terminal.say((f"{count:,} images in {options.out}, overview " if count else "") + f"{options.out}/grid.png")
