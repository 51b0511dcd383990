"""Writes augmented versions of the train set once, so that every experiment on the classifier reuses them.

Reads the train split of data/ingest, and data/validate/passed. Writes data/augment: `view-00`, `view-01`, ... with the
same shards as the train split, image by image, and `before_after.png`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import Field

from stages.augmentation.operations import (
    Border,
    Operation,
    brightness,
    contrast,
    erasing,
    flip,
    noise,
    shift_rotate_zoom,
)
from stages.augmentation.preview import draw_before_after
from stages.augmentation.views import write_views
from stages.core.dataset import read_labels, require
from stages.core.outputs import atomic_folder
from stages.core.params import Params, load_params
from stages.running.terminal import run_stage, say
from stages.running.tracking.record import stage_run

DATA, PASSED, OUTPUT = Path("data/ingest"), Path("data/validate/passed"), Path("data/augment")


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


def recipe(params: AugmentParams) -> dict[str, Callable[[], Operation]]:
    """Factories of the operations that the params switch on, in order and by name; empty when all are off."""
    chosen: dict[str, Callable[[], Operation]] = {}
    if params.flip:
        chosen["flip"] = partial(flip, params.flip)
    if params.shift or params.rotation or params.zoom:
        chosen["shift, rotation, zoom"] = partial(
            shift_rotate_zoom, params.shift, params.rotation, params.zoom, params.border
        )
    if params.contrast:
        chosen["contrast"] = partial(contrast, params.contrast)
    if params.brightness:
        chosen["brightness"] = partial(brightness, params.brightness)
    if params.noise:
        chosen["noise"] = partial(noise, params.noise)
    if params.erasing:
        chosen["erasing"] = partial(erasing, params.erasing, params.erasing_area)
    return chosen


def main() -> None:
    params = load_params(AugmentParams, "augment")
    require(PASSED)
    with stage_run("augment", params) as run, atomic_folder(OUTPUT) as folder:
        labels, chosen = read_labels(DATA, "train"), recipe(params)
        write_views(DATA, folder, views=params.views, recipe=tuple(chosen.values()), seed=params.seed)
        draw_before_after(DATA, folder, labels, folder / "before_after.png")
        run.artifact(folder / "before_after.png")
        run.metrics({"train_images": len(labels), "views": params.views})
    steps = ", ".join(chosen) or "everything off: copies"
    say(
        f"{params.views} augmented versions of {len(labels)} train images ({steps})",
        f"before and after: {OUTPUT}/before_after.png",
    )


if __name__ == "__main__":
    run_stage(main)
