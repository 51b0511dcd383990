"""Makes images with a generator: `python -m ops generate --class bag --count 64 --seed 7 --out bags`

Writes PNG files and grid.png. Image i has the seed SEED + i and depends on its class and seed alone: it is what the
registered model answers for them. Without --class it makes images of all classes, each in a sub-folder of its own, so
that the folder can be used as a data set.
"""

import argparse
import math
import os
import re
import shutil
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ops.project.networks import GAN
from ops.use.interpolation import between_classes, spherical
from ops.use.models import Model, find_model, model_help
from stages.core.outputs import atomic_folder
from stages.drawing.grids import image_grid
from stages.running import terminal
from stages.running.terminal import Progress, UserError
from stages.training.network_files import load_network

AT_A_TIME = 256  # images in memory
SHOWN, SHOWN_PER_CLASS = 100, 12  # images in grid.png, of one class and of each of several
LISTED = 30  # class names in an error
MOST, LARGEST_SEED = 1_000_000, 2**63 - 1  # MLflow's integers


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ops generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the images go")
    parser.add_argument("--class", nargs="+", dest="classes", metavar="NAME", help="one or more classes; default: all")
    parser.add_argument("--count", type=int, metavar="N", help="images of each class; default: 64, in --grid 12")
    parser.add_argument("--seed", type=int, default=0, help="of the first image; default: 0")
    parser.add_argument("--model", help=model_help(GAN))
    parser.add_argument(
        "--truncation",
        type=float,
        default=1.0,
        metavar="PSI",
        help="factor of the latents, 0 to 1: images become more typical and less varied; default: 1, which is off",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--grid", choices=["all"], help="only grid.png, a row for each class and a column for each seed")
    which.add_argument(
        "--interpolate",
        nargs=2,
        metavar=("A", "B"),
        help="the way from class A to class B, a row for each of --count seeds (default: 8); with --class, the way "
        "from seed A to seed B, a row for each of these classes",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="images of one way with its ends; default: 12")
    parser.add_argument("--force", action="store_true", help="write into a folder that holds files, over equal names")
    given = parser.parse_args(words)
    if given.grid and given.classes:
        parser.error("--grid all shows every class: leave out --class")
    if given.steps is not None and not given.interpolate:
        parser.error("--steps goes with --interpolate")
    if given.interpolate and given.classes and given.count is not None:
        parser.error("with --class and --interpolate there is a row for each class: leave out --count")
    given.count = given.count if given.count is not None else 12 if given.grid else 8 if given.interpolate else 64
    given.steps = 12 if given.steps is None else given.steps
    for option, value, low, high in (
        ("--count", given.count, 1, MOST),
        ("--seed", given.seed, 0, LARGEST_SEED - MOST),
        ("--steps", given.steps, 2, 1000),
        ("--truncation", given.truncation, 0, 1),
    ):
        if not low <= value <= high:
            parser.error(f"{option} {value}: expected {low} to {high}")
    return given


def asked_labels(model: Model, names: Sequence[str] | None) -> list[int]:
    """The labels of the classes asked for, of all classes when none are named; one when the network knows none.

    Raises UserError for a class that it does not know.
    """
    if not model.conditional:
        if names:
            raise UserError(f"{model.description} was trained without classes: leave out --class")
        return [0]
    if unknown := [name for name in names or [] if name not in model.classes]:
        known = ", ".join(model.classes[:LISTED]) + (", ..." if len(model.classes) > LISTED else "")
        raise UserError(f"no such class: {', '.join(unknown)}; {model.description} knows {known}")
    return list(dict.fromkeys(map(model.classes.index, names))) if names else list(range(len(model.classes)))


def asked_seeds(ends: Sequence[str], model: Model) -> list[int]:
    """The ends of an interpolation as seeds. Raises UserError for anything else."""
    for end in ends:
        if not re.fullmatch(r"[0-9]{1,18}", end):
            why = "with --class" if model.conditional else f"{model.description} was trained without classes, so"
            raise UserError(f"--interpolate {' '.join(ends)}: {why} A and B are seeds, 0 or more, and {end!r} is none")
    return [int(end) for end in ends]


def file_names(model: Model) -> list[str]:
    """A name for the files of each class that every file system takes."""
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
    """Yields an empty folder, whose files are at `path` when the block has ended without an error; else nothing is.

    Raises UserError when files are there already and `force` is not given, and when nothing can be written there.
    """
    path = path.absolute()
    if path.suffix.lower() == ".png" or path.is_file():
        raise UserError(f"--out {path}: expected a folder, in which grid.png and the images are written")
    if path.is_dir() and any(path.iterdir()) and not force:
        raise UserError(f"{path} holds files: name another folder, or overwrite those of equal names with --force")
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
    """The network with the code that answers for a registered one."""
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


def write_images(folder: Path, generator: Any, model: Model, labels: list[int], given: argparse.Namespace) -> None:
    """`count` images of each label, and the grid; with --grid the grid alone."""
    names, several = file_names(model), len(labels) > 1
    most = given.count if given.grid else SHOWN_PER_CLASS if several else SHOWN
    shown = list[np.ndarray]()
    with Progress("generate", len(labels) * given.count, "images") as bar:
        for label in labels:
            place = folder / names[label] if several else folder
            for start in range(0, given.count, AT_A_TIME):
                numbers = range(start, min(start + AT_A_TIME, given.count))
                latents = generator.latents([given.seed + number for number in numbers], given.truncation)
                made = generator.images(latents, np.full(len(latents), label, np.int32))
                shown.extend(made[: max(0, most - start)])
                if not given.grid:
                    for number, pixels in zip(numbers, made, strict=True):
                        save_image(pixels, place / f"{names[label]}-{number:04d}.png")
                bar.advance(len(made))
    seeds = [str(given.seed + number) for number in range(min(most, given.count))]
    images, path, what = np.stack(shown), folder / "grid.png", title(model, labels, given)
    if several or given.grid:
        rows = [model.classes[label] for label in labels] if model.conditional else []
        image_grid(images, path, len(seeds), row_labels=rows, column_labels=seeds, title=what, tile=64)
    else:
        image_grid(images, path, min(10, math.ceil(math.sqrt(len(images)))), captions=seeds, title=what, tile=64)


def write_ways(folder: Path, generator: Any, model: Model, labels: list[int], given: argparse.Namespace) -> None:
    """The images on each way of --interpolate, and the grid, a row for each way."""
    names = file_names(model)
    if given.classes or not model.conditional:
        first, last = asked_seeds(given.interpolate, model)
        ends = generator.latents([first, last], given.truncation)
        latents = spherical(ends[0], ends[1], given.steps)
        made = [generator.images(latents, np.full(given.steps, label, np.int32)) for label in labels]
        row_labels = [model.classes[label] for label in labels] if model.conditional else []
        files = [names[label] for label in labels]
    else:
        latents = generator.latents([given.seed + number for number in range(given.count)], given.truncation)
        a, b = labels
        columns = between_classes(generator.network, generator.images, latents, a, b, given.steps)
        made = list(np.stack(columns, axis=1))
        row_labels = [f"seed {given.seed + number}" for number in range(given.count)]
        files = [f"{names[a]}-{names[b]}-{number:04d}" for number in range(given.count)]
    for name, way in zip(files, made, strict=True):
        for step, pixels in enumerate(way):
            save_image(pixels, folder / f"{name}-{step:03d}.png")
    shown = np.concatenate(made)
    image_grid(
        shown, folder / "grid.png", given.steps, row_labels=row_labels, title=title(model, labels, given), tile=64
    )


def title(model: Model, labels: list[int], given: argparse.Namespace) -> str:
    """What the grid shows."""
    if given.interpolate:
        seeds = given.classes or not model.conditional
        kind, (first, last) = "seed" if seeds else "class", given.interpolate
        shown = f"from {kind} {first} to {kind} {last}"
    elif len(labels) > 1 or given.grid:
        shown = "a column for each seed"
    else:
        shown = (f"class {model.classes[labels[0]]}, " if model.conditional else "") + "each with its seed"
    return shown + (f", truncation {given.truncation:g}" if given.truncation < 1 else "")


def main() -> None:
    given = parse()
    with filled_folder(given.out, given.force) as folder, find_model(GAN, given.model) as model:
        classes_at_ends = given.interpolate and model.conditional and not given.classes
        if given.interpolate and not classes_at_ends:
            asked_seeds(given.interpolate, model)  # TensorFlow takes a while: a mistake is reported before it is loaded
        labels = asked_labels(model, given.interpolate if classes_at_ends else given.classes)
        if classes_at_ends and len(labels) == 1:
            raise UserError(f"--interpolate {' '.join(given.interpolate)}: expected two classes")
        terminal.say(f"generator: {model.description}")
        generator = load_generator(model)
        (write_ways if given.interpolate else write_images)(folder, generator, model, labels, given)
        count = sum(1 for _ in folder.rglob("*.png")) - 1
    terminal.say((f"{count:,} images, " if count else "") + f"look at {given.out}/grid.png")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is half-written is removed
    terminal.run_stage(main)
