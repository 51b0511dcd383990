"""Pictures of generated images and of possible copies; see stages/drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.drawing.films import write_film
from stages.drawing.grids import grid_picture, image_grid
from stages.drawing.plots import COLOURS, panel_axes, short_name
from stages.generator.sampling import circular_walk, draw_latents, generate, is_conditional

SHOWN_CLASSES, SHOWN_NEIGHBOURS, SHOWN_PAIRS, PAIRS_IN_A_ROW = 20, 12, 24, 6
WALKS, WALK_FRAMES = 6, 36  # per class; of the animation


def draw_samples(path: Path, generator, classes: Sequence[str], seed: int) -> None:
    """Generated images, a row per class."""
    shown = np.repeat(np.arange(min(len(classes), SHOWN_CLASSES)), 12)
    samples = generate(generator, draw_latents(len(shown), generator.input_shape[0][1], seed + 1), shown)
    row_labels = classes[:SHOWN_CLASSES] if is_conditional(generator) else ()
    image_grid(samples, path, columns=12, row_labels=row_labels, tile=64)


def draw_walk(path: Path, generator, classes: Sequence[str], seed: int) -> None:
    """An animation of walks through the latents, each on a circle around the origin at the distance of random latents;
    a row per class."""
    shown = np.repeat(np.arange(min(len(classes), SHOWN_CLASSES)), WALKS)
    start, towards = draw_latents(2 * len(shown), generator.input_shape[0][1], seed + 3).reshape(2, len(shown), -1)
    latents = circular_walk(start, towards, WALK_FRAMES)
    made = generate(generator, latents.reshape(-1, latents.shape[2]), np.tile(shown, WALK_FRAMES))
    frames = made.reshape(WALK_FRAMES, len(shown), *made.shape[1:])
    row_labels = classes[:SHOWN_CLASSES] if is_conditional(generator) else ()
    write_film([grid_picture(frame, WALKS, row_labels=row_labels, tile=64) for frame in frames], path, milliseconds=100)


def draw_neighbours(path: Path, fake: np.ndarray, nearest: np.ndarray) -> None:
    """Generated images [n, h, w, c] above the train images nearest to them in the reference space."""
    image_grid(
        np.concatenate([fake, nearest]),
        path,
        columns=len(fake),
        tile=64,
        row_labels=["generated", "nearest train image"],
        title="generated images and the train images nearest to them in the reference space",
    )


def draw_pairs(path: Path, fake: np.ndarray, nearest: np.ndarray, distances: np.ndarray, space: str) -> None:
    """Generated images [n, h, w, c], each next to its nearest train image, in the given order; `space`: where the
    distances [n] were measured."""
    height = fake.shape[1]
    between, margin = (
        np.full((len(fake), height, width, fake.shape[3]), 255, np.uint8) for width in (1, max(1, height // 8))
    )
    image_grid(
        np.concatenate([margin, fake, between, nearest, margin], axis=2),
        path,
        columns=PAIRS_IN_A_ROW,
        captions=[f"{distance:#.3g}" for distance in distances],
        title=f"generated | nearest train image: the {len(fake)} nearest pairs {space}, and their distance",
        tile=160,
        font_size=12,
    )


def draw_distances(path: Path, spaces: Mapping[str, tuple[np.ndarray, np.ndarray, float]], share: float) -> None:
    """Histograms of the distances of generated and test images to their nearest train images, with the threshold below
    which a generated image is a near copy: a panel per space, keyed by the label of its axis."""
    with panel_axes(len(spaces), path) as axes:
        for axis, (label, (fake, test, threshold)) in zip(axes, spaces.items(), strict=True):
            edges = np.histogram_bin_edges(np.concatenate([fake, test]), bins=40)
            for colour, (kind, values) in zip(COLOURS, {"test images": test, "generated": fake}.items(), strict=False):
                shares = np.histogram(values, edges)[0] / len(values)
                axis.stairs(shares, edges, color=colour, fill=True, alpha=0.25)
                axis.stairs(shares, edges, color=colour, label=kind)
            axis.axvline(threshold, color="grey", linestyle=":", label=f"nearest {100 * share:.3g}% of test images")
            axis.set(xlabel=label, ylabel="share of the images")
            axis.set_ylim(0, 1.4 * axis.get_ylim()[1])  # room for the legend
            axis.set_title(f"near copies: {np.mean(fake <= threshold):.1%} of the generated", fontsize=10)
            axis.legend(fontsize=8)


def draw_class_distances(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Bars of the Frechet distances of each class, the farthest first where there are many. `rows` come from
    class_distances; those without a distance are left out."""
    measured = [row for row in rows if row["fd"] != ""]
    shown = measured
    if len(measured) > SHOWN_CLASSES:
        shown = sorted(measured, key=lambda row: row["fd_floor"] - row["fd"])[:SHOWN_CLASSES]
    with panel_axes(1, path) as (axis,):
        places = np.arange(len(shown))
        for colour, shift, key, label in (
            (COLOURS[1], -0.2, "fd", "generated"),
            (COLOURS[0], 0.2, "fd_floor", "train"),
        ):
            axis.barh(places + shift, [row[key] for row in shown], 0.4, color=colour, label=f"{label} images")
        names = [short_name(row["class"]) for row in shown]
        # Class names come from data: a `$` in one must not start mathematics.
        axis.set_yticks(places, names, fontsize=8 if len(shown) <= 12 else 6, parse_math=False)
        axis.invert_yaxis()
        axis.set(xlabel="Frechet distance to the class's test images")
        title = f"the {len(shown)} classes farthest from real" if len(shown) < len(measured) else "by class"
        if len(measured) < len(rows):
            title += f"; {len(rows) - len(measured)} left out for too few images"
        axis.set_title(title, fontsize=10)
        if shown:
            axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False)
