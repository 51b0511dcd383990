"""Compares this project's generators with settings that users copy, in equal time on the same machine.

    python -m bench.generator ARCHIVE [--minutes 2 4 8] [--seeds 0 1 2] [--only NAME ...] [--full]

ARCHIVE is Fashion-MNIST, with folders `train/CLASS` and `test/CLASS`. The default is params.yaml; `dcgan` and `wgan-gp`
change its network or loss; the two of keras.io are rebuilt in keras_gans.py. Each trains in its own process, and its
clock stops during measurements: 10,000 generated images against the 10,000 test images, in the features of one
reference network. No choice depends on these metrics. The default is trained with each seed, the others with the first.
`--full` trains the conditional GAN of keras.io for its published 20 epochs, however long that takes.

Writes bench/results/generator.json, to which a run with `--only` or `--full` adds, and generator.png.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import RESULTS, in_new_process, machine
from bench.generator_runs import ReferenceMetrics, train_copied, train_ours, train_reference
from bench.images import Images, read_images
from stages.drawing.grids import image_grid
from stages.running import terminal

OURS: dict[str, dict[str, Any]] = {
    "default": {},
    "dcgan, bce": {"gan.arch": "dcgan", "gan.loss": "bce", "gan.width": 32, "gan.mismatch": 0},
    "wgan-gp": {"gan.loss": "wgan-gp", "gan.mismatch": 0},
}
COPIED = {"keras.io conditional GAN": "conditional_gan", "keras.io WGAN-GP": "wgan_gp"}
FULL, FULL_EPOCHS = "keras.io cond. GAN, 20 epochs", 20
METRICS = ("fd", "kid", "precision", "recall", "label_accuracy", "images_per_second", "seconds", "steps")


def floor(images: Images, reference: Path) -> dict[str, float]:
    return ReferenceMetrics(images, reference).floor()


def arranged(runs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The metrics of one recipe, `metric: minutes: seed: value`."""
    found: dict[str, Any] = {name: {} for name in METRICS}
    for seed, run in runs.items():
        for row in run["rows"]:
            for name in METRICS:
                found[name].setdefault(f"{row['minutes']:g}", {})[str(seed)] = row[name]
    first = next(iter(runs.values()))
    return found | {key: first[key] for key in ("weights", "share_of_peak") if key in first}


def print_rows(name: str, run: Mapping[str, Any]) -> None:
    for row in run["rows"]:
        print(
            f"{name:38s} {row['minutes']:6.1f} min {row['steps']:7,} steps {row['images_per_second']:7,.0f} images/s  "
            f"FD {row['fd']:7.2f}  KID {row['kid']:8.3f}  precision {row['precision']:.3f}  recall {row['recall']:.3f} "
            f" label accuracy {row['label_accuracy']:.3f}",
            flush=True,
        )
    if "share_of_peak" in run:
        print(f"{name:38s} share of measured peak {run['share_of_peak']:.1%}", flush=True)


def run_all(
    images: Images, reference: Path, arguments: argparse.Namespace
) -> Iterator[tuple[str, dict[str, Any], np.ndarray]]:
    """Trains each recipe; yields its name, its metrics, and samples uint8 [n, h, w, c]."""
    minutes = arguments.minutes
    for name in arguments.only or ([] if arguments.full else [*OURS, *COPIED]):
        runs: dict[int, dict[str, Any]] = {}
        for seed in arguments.seeds if name == "default" else arguments.seeds[:1]:
            if name in OURS:
                runs[seed] = in_new_process(train_ours, images, reference, seed, OURS[name], minutes)
            else:
                runs[seed] = in_new_process(train_copied, images, reference, seed, COPIED[name], minutes, None)
            print_rows(f"{name}, seed {seed}", runs[seed])
        yield name, arranged(runs), runs[arguments.seeds[0]]["samples"]
    if arguments.full:
        run = in_new_process(train_copied, images, reference, 0, "conditional_gan", arguments.minutes, FULL_EPOCHS)
        print_rows(FULL, run)
        yield FULL, arranged({0: run}), run["samples"]


def print_ratios(result: Mapping[str, Any]) -> None:
    """Prints means over the seeds after the longest time, relative to the default and to real images."""
    last = max(result["recipes"]["default"]["fd"], key=float)
    ours = statistics.mean(result["recipes"]["default"]["fd"][last].values())
    print(f"\n{'after ' + last + ' minutes':38s}       FD    x the floor    x the default  label accuracy  images/s")
    for name, recipe in result["recipes"].items():
        end = max(recipe["fd"], key=float)
        fd, share, speed = (
            statistics.mean(recipe[metric][end].values()) for metric in ("fd", "label_accuracy", "images_per_second")
        )
        print(f"{name:38s} {fd:8.2f} {fd / result['floor']:12.1f}x {fd / ours:16.1f}x {share:15.3f} {speed:9,.0f}")
    print(
        f"{'real train images':38s} {result['floor']:8.2f} {1:12.1f}x {'':17s} {result['real']['label_accuracy']:15.3f}"
    )


def draw(samples: Mapping[str, np.ndarray], path: Path) -> None:
    """Draws a row per recipe, with the same latents and classes in each column."""
    columns = 20
    chosen = np.linspace(0, 119, columns).astype(int)
    shown = np.concatenate([images[chosen] for images in samples.values()])
    image_grid(shown, path, columns, row_labels=list(samples), tile=56)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 4, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="for the default; others use the first")
    parser.add_argument("--only", nargs="+", choices=[*OURS, *COPIED], metavar="NAME", help=", ".join([*OURS, *COPIED]))
    parser.add_argument("--full", action="store_true", help=f"{FULL}; only this unless --only names others")
    arguments = parser.parse_args()
    images = read_images(arguments.archive)
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference.keras"
        trained = in_new_process(train_reference, images, reference)
        real = in_new_process(floor, images, reference)
        print(f"reference: test accuracy {trained['accuracy']:.4f}, {trained['features']} features", flush=True)
        print_rows("real train images", {"rows": [real | {"minutes": 0, "steps": 0, "images_per_second": 0}]})
        RESULTS.mkdir(exist_ok=True)
        path, whole = RESULTS / "generator.json", not (arguments.only or arguments.full)
        before = {} if whole or not path.exists() else json.loads(path.read_text(encoding="utf-8"))
        result = {"floor": real["fd"], "real": real, "reference": trained, "recipes": before.get("recipes", {})}
        samples = {}
        for name, metrics, samples[name] in run_all(images, reference, arguments):
            result["recipes"][name] = metrics | {"run_on": machine()}  # saved at once: all recipes take an hour
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(samples, RESULTS / ("generator.png" if whole else "generator_more.png"))
    print_ratios(result)
    print(f"wrote {path}")


if __name__ == "__main__":
    terminal.run_stage(main)
