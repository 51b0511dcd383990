"""Compares the tutorials' classifier with this project's recipe, in turn on the same machine.

    python -m bench.classifier ARCHIVE [--mnist ARCHIVE] [--seeds 0 1 2] [--parts PART ...]

ARCHIVE holds `train/CLASS/*.png` and `test/CLASS/*.png`; RESULTS.md uses Fashion-MNIST with its 60,000 and 10,000
images. The recipe is params.yaml with the preset `fashion_mnist`, in as many epochs as fit into the time of the
tutorials' code (estimated from a few steps), or with the preset `short`. Its time includes everything except imports
and reading the images: augmentation, building and compiling the network, training. Both times exclude the tests after
each epoch, which are for the curves: no choice depends on them. Each training runs in its own process.

Writes bench/results/classifier.json after each part, and classifier.png.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.classifier_runs import measure_peak, preset, train_article, train_recipe
from bench.common import RESULTS, in_new_process, machine, summary
from bench.images import Images, read_images
from stages.drawing.plots import panel_axes
from stages.running import terminal

COLOURS = ["#d1495b", "#1f77b4", "#17a2b8", "#3c9d6b", "#8a6fb3", "#e0a030"]
EPOCHS = 10  # of the tutorials' code
FEW = {100: 100, 1000: 40}  # train images per class: epochs of the recipe
PARTS = ["equal time", "short", "others", "few", "mnist"]
OTHERS = {
    "vgg, width 32, depth 2": {"cnn.arch": "vgg", "cnn.depth": 2},
    "resnet, width 16, depth 1": {"cnn.arch": "resnet", "cnn.width": 16},
    "article's network, our training": {"cnn.arch": "article", "cnn.lr": 4e-3},
}


def compare(images: Images, recipe: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """Trains the tutorials' code, and the recipe in equal time, in turn for each seed."""
    article, ours = [], []
    for seed in seeds:
        article.append(in_new_process(train_article, images, seed, EPOCHS, None))
        print_run(f"article, seed {seed}", article[-1])
        ours.append(in_new_process(train_recipe, images, seed, recipe, article[-1]["seconds"]))
        print_run(f"ours, seed {seed}", ours[-1])
    shape, classes = images.train.shape[1:], int(images.train_labels.max()) + 1
    result = {}
    for side, arch, runs in (("article", "article", article), ("ours", "compact", ours)):
        peak = in_new_process(measure_peak, arch, shape, classes, recipe)
        rates = [run["epochs"] * len(images.train) / run["seconds"] for run in runs]
        result[side] = {
            "seconds": summary([run["seconds"] for run in runs], seeds),
            "epochs": [run["epochs"] for run in runs],
            "images_per_second": summary(rates, seeds),
            "share_of_peak": summary([rate / peak["images_per_second"] for rate in rates], seeds),
            "gflops": summary([rate * peak["flops_per_image"] / 1e9 for rate in rates], seeds),
            "peak_gflops": peak["images_per_second"] * peak["flops_per_image"] / 1e9,
            "by_epoch": [run["by_epoch"] for run in runs],
        }
    result["article"]["accuracy"] = summary([run["accuracy"] for run in article], seeds)
    result["ours"]["accuracy_at_equal_time"] = summary([run["accuracy"] for run in ours], seeds)
    result["ours"]["accuracy_without_views"] = summary([run["plain"] for run in ours], seeds)
    return result


def short(images: Images, seeds: Sequence[int], article: Mapping[str, Any]) -> dict[str, Any]:
    """Trains the recipe with the preset `short`, to find when it reaches the final accuracy of the tutorials' code."""
    recipe = preset("fashion_mnist", "short")
    runs = []
    for seed in seeds:
        runs.append(in_new_process(train_recipe, images, seed, recipe, None))
        print_run(f"short, seed {seed}", runs[-1])
    return {
        "seconds": summary([run["seconds"] for run in runs], seeds),
        "accuracy": summary([run["accuracy"] for run in runs], seeds),
        "seconds_to_article_accuracy": summary(
            [seconds_to(goal, run) for goal, run in zip(article["accuracy"]["seeds"].values(), runs, strict=True)],
            seeds,
        ),
        "by_epoch": [run["by_epoch"] for run in runs],
    }


def seconds_to(goal: float, run: Mapping[str, Any]) -> float:
    """Training time after which a run reaches the accuracy `goal`; infinite when it never does."""
    rows = [*run["by_epoch"][:-1], (run["seconds"], run["accuracy"])]
    return next((seconds for seconds, accuracy in rows if accuracy >= goal), float("inf"))


def few_images(images: Images, seeds: Sequence[int]) -> dict[str, Any]:
    """Trains the recipe on few images, and the tutorials' code for the same time."""
    result = {}
    for count, epochs in FEW.items():
        recipe = preset("fashion_mnist") | {"cnn.epochs": epochs, "augment.views": epochs, "cnn.batch_size": 128}
        ours, article = [], []
        for seed in seeds:
            few = images.few(count, seed)
            ours.append(in_new_process(train_recipe, few, seed, recipe, None))
            print_run(f"ours, {count} images per class, seed {seed}", ours[-1])
            article.append(in_new_process(train_article, few, seed, None, ours[-1]["seconds"]))
            print_run(f"article, {count} images per class, seed {seed}", article[-1])
        result[str(count)] = {
            side: {name: summary([run[name] for run in runs], seeds) for name in ("seconds", "accuracy")}
            for side, runs in (("article", article), ("ours", ours))
        }
    return result


def print_run(name: str, run: Mapping[str, Any]) -> None:
    print(f"{name:44s} {run['accuracy']:.4f} after {run['epochs']:3d} epochs, {run['seconds']:6.1f} s", flush=True)


def print_table(result: Mapping[str, Any]) -> None:
    article, ours, quick = result["article"], result["ours"], result["short"]

    def line(name: str, left: Mapping[str, Any], right: Mapping[str, Any], form: str) -> None:
        texts = [f"{v['mean']:{form}} ({v['range'][0]:{form}} to {v['range'][1]:{form}})" for v in (left, right)]
        print(f"{name:32s}{texts[0]:>32s}{texts[1]:>32s}")

    print(f"\n{'mean (range) of the seeds':32s}{'article':>32s}{'ours':>32s}")
    line("training, s", article["seconds"], ours["seconds"], ",.1f")
    line("images/s", article["images_per_second"], ours["images_per_second"], ",.0f")
    line("GFLOP/s", article["gflops"], ours["gflops"], ",.0f")
    line("share of measured peak", article["share_of_peak"], ours["share_of_peak"], ".1%")
    line("test accuracy", article["accuracy"], ours["accuracy_at_equal_time"], ".4f")
    line("s to the article's accuracy", article["seconds"], quick["seconds_to_article_accuracy"], ".1f")
    for count, sides in result.get("few", {}).items():
        line(f"{count} images per class, accuracy", sides["article"]["accuracy"], sides["ours"]["accuracy"], ".4f")
        line(f"{count} images per class, s", sides["article"]["seconds"], sides["ours"]["seconds"], ".1f")
    if "mnist" in result:
        pair = result["mnist"]["article"]["accuracy"], result["mnist"]["ours"]["accuracy_at_equal_time"]
        line("MNIST, test accuracy", *pair, ".4f")
    ratios = [
        quick_seconds / article_seconds
        for quick_seconds, article_seconds in zip(
            quick["seconds_to_article_accuracy"]["seeds"].values(), article["seconds"]["seeds"].values(), strict=True
        )
    ]
    print(f"ratio of the times to the article's accuracy: 1/{1 / statistics.mean(ratios):.1f}")
    gain = ours["accuracy_at_equal_time"]["mean"] - article["accuracy"]["mean"]
    print(f"gain of test accuracy in equal time: {gain:+.4f}")


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Plots test accuracy over training time."""
    curves = {
        "article": result["article"]["by_epoch"],
        "ours (compact)": result["ours"]["by_epoch"],
        "ours, preset short": result["short"]["by_epoch"],
        **{name: [run["by_epoch"]] for name, run in result["others"].items()},
    }
    level = result["article"]["accuracy"]["mean"]
    with panel_axes(2, path) as (early, late):
        for axis in (early, late):
            for colour, (name, seeds) in zip(COLOURS, curves.items(), strict=True):
                for index, rows in enumerate(seeds):
                    seconds, accuracies = zip(*rows, strict=True)
                    label = name if index == 0 else None
                    axis.plot(seconds, accuracies, color=colour, label=label, linewidth=1, marker="o", markersize=2.5)
            axis.axhline(level, color="black", linestyle=":", linewidth=1, label="article, final")
            axis.set(xlabel="seconds of training", ylabel="test accuracy")
        early.set(xlim=(0, 0.25 * result["article"]["seconds"]["mean"]), ylim=(0.80, 0.93))
        late.set(ylim=(0.82, 0.95))  # room for the legend
        late.legend(fontsize=7, loc="lower right")


def others(images: Images, article: Mapping[str, Any]) -> dict[str, Any]:
    """Trains other networks with the same recipe in equal time, one seed each."""
    runs = {}
    for name, changes in OTHERS.items():
        recipe = preset("fashion_mnist") | changes
        runs[name] = in_new_process(train_recipe, images, 0, recipe, article["seconds"]["mean"])
        print_run(name, runs[name])
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="Fashion-MNIST, or a similar data set")
    parser.add_argument("--mnist", type=Path, help="handwritten digits; trained without mirroring")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="run these parts and keep the other results"
    )
    arguments = parser.parse_args()
    images, seeds, path = read_images(arguments.archive), arguments.seeds, RESULTS / "classifier.json"
    kept = path.exists() and arguments.parts != PARTS
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if kept else {}
    for part in arguments.parts:
        if part == "equal time":
            result |= compare(images, preset("fashion_mnist"), seeds)
        elif part == "short":
            result["short"] = short(images, seeds, result["article"])
            result["ours"]["seconds_to_article_accuracy"] = result["short"]["seconds_to_article_accuracy"]
        elif part == "others":
            result["others"] = others(images, result["article"])
        elif part == "few":
            result["few"] = few_images(images, seeds)
        elif arguments.mnist:
            digits = preset("fashion_mnist") | {"augment.flip": 0, "cnn.test_views": "shift"}
            result["mnist"] = compare(read_images(arguments.mnist), digits, seeds)
        result.setdefault("run_on", {})[part] = machine()
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result, RESULTS / "classifier.png")
    print_table(result)
    print(f"wrote {path} and classifier.png")


if __name__ == "__main__":
    terminal.run_stage(main)
