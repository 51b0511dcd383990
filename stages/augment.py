"""Writes augmented versions of the train set once, so that every experiment on the classifier reuses them.

Reads the train split of data/ingest, and data/validate/passed. Writes data/augment: `view-00`, `view-01`, ... with the
same shards as the train split, image by image, and `before_after.png`.
"""

import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field

from stages.lib import dataset, tracking
from stages.lib.augmentations import (
    Border,
    Operation,
    brightness,
    contrast,
    erasing,
    flip,
    noise,
    shift_rotate_zoom,
)
from stages.lib.outputs import whole_folder
from stages.lib.params import Params, load_params
from stages.lib.pictures import image_grid
from stages.lib.terminal import Progress, run_stage, say
from stages.lib.views import ViewShard, write_view_shard
from stages.lib.workers import ordered_map

DATA = Path("data/ingest")
PASSED = Path("data/validate/passed")
OUTPUT = Path("data/augment")
SMALL = 2**26  # bytes: written before worker processes would have started
SHOWN_VIEWS, SHOWN_CLASSES = 8, 20  # in the picture


class AugmentParams(Params):
    views: int = Field(ge=1, le=1000)
    flip: float = Field(ge=0, le=1)
    shift: float = Field(ge=0, le=0.5)
    rotation: float = Field(ge=0, le=180)
    zoom: float = Field(ge=0, le=0.9)
    border: Border
    contrast: float = Field(ge=0, le=1)
    brightness: float = Field(ge=0, le=1)
    noise: float = Field(ge=0, le=255)
    erasing: float = Field(ge=0, le=1)
    erasing_area: float = Field(ge=0.02, le=1)
    seed: int = Field(ge=0, lt=2**32)


def recipe(p: AugmentParams) -> dict[str, Callable[[], Operation]]:
    """What the params ask for, in order; empty when all is off."""
    chosen: dict[str, Callable[[], Operation]] = {}
    if p.flip:
        chosen["flip"] = partial(flip, p.flip)
    if p.shift or p.rotation or p.zoom:
        chosen["shift, rotation, zoom"] = partial(shift_rotate_zoom, p.shift, p.rotation, p.zoom, p.border)
    if p.contrast:
        chosen["contrast"] = partial(contrast, p.contrast)
    if p.brightness:
        chosen["brightness"] = partial(brightness, p.brightness)
    if p.noise:
        chosen["noise"] = partial(noise, p.noise)
    if p.erasing:
        chosen["erasing"] = partial(erasing, p.erasing, p.erasing_area)
    return chosen


def operations(p: AugmentParams) -> dict[str, Operation]:
    """The same, ready to be applied."""
    return {name: make() for name, make in recipe(p).items()}


def write_views(params: AugmentParams, output: Path, workers: int | None = None) -> None:
    """Writes the views of the train split below `output`; the bytes are the same for any workers (see ordered_map)."""
    shards = dataset.open_shards(DATA, "train")
    paths = [path.absolute() for path in dataset.shard_paths(DATA, "train")]
    firsts = np.cumsum([0, *map(len, shards)]).tolist()
    # Shards are moved to their places from here: what is there is complete.
    scratch = Path(tempfile.mkdtemp(prefix=".", dir=output)).absolute()
    tasks = [
        ViewShard(str(path), str(scratch), first, view)
        for view in range(params.views)
        for path, first in zip(paths, firsts, strict=False)
    ]
    small = params.views * sum(shard.nbytes for shard in shards) <= SMALL
    task = partial(write_view_shard, recipe=tuple(recipe(params).values()), seed=params.seed)
    written = ordered_map(task, tasks, 1 if small else workers)
    with closing(written), Progress("augment", total=len(tasks), unit="shards") as bar:
        for (source, _, _, view), path in zip(tasks, written, strict=True):
            folder = output / f"view-{view:02d}"
            folder.mkdir(exist_ok=True)
            Path(path).replace(folder / Path(source).name)
            bar.advance()
    shutil.rmtree(scratch)


def main() -> None:
    params = load_params(AugmentParams, "augment")
    dataset.require(PASSED)
    with tracking.stage_run("augment", params) as run, whole_folder(OUTPUT) as output:
        labels = dataset.read_labels(DATA, "train")
        write_views(params, output)
        draw_before_after(examples(output, labels), output / "before_after.png")
        run.artifact(output / "before_after.png")
        run.metrics({"train_images": len(labels), "views": params.views})
    steps = ", ".join(operations(params)) or "everything off: copies"
    say(
        f"{params.views} augmented versions of {len(labels)} train images ({steps})",
        f"before and after: {OUTPUT}/before_after.png",
    )


def examples(output: Path, labels: np.ndarray) -> dict[str, list[np.ndarray]]:
    """For each class, its first train image [height, width, channels] and what became of it in the first views."""
    folders = [DATA, *sorted(output.glob("view-*"))[:SHOWN_VIEWS]]
    shown = np.unique(labels)[:SHOWN_CLASSES]
    first = [int(np.argmax(labels == label)) for label in shown]
    columns = [dataset.pick(dataset.open_shards(folder, "train"), first) for folder in folders]
    names = dataset.read_classes(DATA)
    return {names[label]: [column[row] for column in columns] for row, label in enumerate(shown)}


def draw_before_after(rows: dict[str, list[np.ndarray]], path: Path) -> None:
    """Writes a picture with a row per class: the original, then its augmented versions."""
    views = len(next(iter(rows.values()))) - 1
    image_grid(
        np.stack([image for images in rows.values() for image in images]),
        path,
        columns=1 + views,
        row_labels=list(rows),
        column_labels=["original", *(f"view {view}" for view in range(views))],
        tile=72,
        font_size=11,
    )


if __name__ == "__main__":
    run_stage(main)
