"""Generates images: `visionloop generate --class bag --count 64 --seed 7 --out bags`

Writes PNG files and grid.png. Image i has the seed SEED + i and depends only on its class and seed: it equals the
registered model's output for them. Without --class it generates images of all classes, each in its own subfolder, so
that the folder can be used as a data set.
"""

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path

from ops.project.networks import GAN
from ops.use.options import model_help
from stages.running import terminal

MAX_COUNT, MAX_SEED = 1_000_000, 2**63 - 1  # MLflow's integers


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visionloop generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="output folder")
    parser.add_argument("--class", nargs="+", dest="classes", metavar="NAME", help="one or more classes; default: all")
    parser.add_argument("--count", type=int, metavar="N", help="images per class; default: 64, with --grid 12")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first image; default: 0")
    parser.add_argument("--model", help=model_help(GAN))
    parser.add_argument(
        "--truncation",
        type=float,
        default=1.0,
        metavar="PSI",
        help="factor of the latents, 0 to 1; lower values give more typical, less varied images; default: 1, off",
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--grid", choices=["all"], help="only grid.png, with a row per class and a column per seed")
    modes.add_argument(
        "--interpolate",
        nargs=2,
        metavar=("A", "B"),
        help="interpolate from class A to class B, a row for each of --count seeds (default: 8); with --class, "
        "interpolate from seed A to seed B, a row for each of these classes",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="images per interpolation, ends included; default: 12")
    parser.add_argument("--force", action="store_true", help="write to a non-empty folder and overwrite equal names")
    options = parser.parse_args(words)
    if options.grid and options.classes:
        parser.error("--grid all shows every class: leave out --class")
    if options.steps is not None and not options.interpolate:
        parser.error("--steps requires --interpolate")
    if options.interpolate and options.classes and options.count is not None:
        parser.error("--interpolate with --class has one row for each class: leave out --count")
    if options.count is None:
        options.count = 12 if options.grid else 8 if options.interpolate else 64
    options.steps = 12 if options.steps is None else options.steps
    for option, value, low, high in (
        ("--count", options.count, 1, MAX_COUNT),
        ("--seed", options.seed, 0, MAX_SEED - MAX_COUNT),
        ("--steps", options.steps, 2, 1000),
        ("--truncation", options.truncation, 0, 1),
    ):
        if not low <= value <= high:
            parser.error(f"{option} {value}: expected {low} to {high}")
    return options


def main() -> None:
    options = parse()
    from ops.use.generation import generate

    generate(options)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that partial output is removed
    terminal.run_stage(main)
