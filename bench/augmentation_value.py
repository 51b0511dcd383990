"""Measures whether generated images help the classifier: its test accuracy with few and many real images.

    python -m bench.augmentation_value ARCHIVE [--sizes 20 100 500 0] [--seeds 0 1 2] [--jobs 2] [--resume]

ARCHIVE is Fashion-MNIST, with folders `train/CLASS` and `test/CLASS`. For each number of real images per class (0: all)
and each seed, the default generator is trained on only these images, with DiffAugment when they are few, and then the
classifier of the preset `fashion_mnist` four times, with equal numbers of steps:

    none        the real images, unchanged
    classical   mirrored and shifted
    generated   plus an equal number of generated images, new ones in each of 8 epochs
    both        real and generated images, mirrored and shifted

Writes bench/results/augmentation_value.json and .png.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bench.classifier_runs import load as load_classifier
from bench.classifier_runs import preset
from bench.common import RESULTS, machine
from bench.generator_runs import load as load_generator
from bench.images import Images, read_images
from stages.augment import recipe
from stages.augmentation.operations import augment
from stages.classifier.training import build_step as build_classifier_step
from stages.drawing.plots import COLOURS, panel_axes
from stages.generator.sampling import draw_latents, generate
from stages.generator.training import build_step as build_generator_step
from stages.running import terminal
from stages.training.loop import steps_per_epoch, train
from stages.training.scores import accuracy
from stages.training.tensorflow import seed_everything, tf

KINDS = ("none", "classical", "generated", "both")
GENERATOR_STEPS, CLASSIFIER_STEPS, VIEWS = 3000, 1500, 8
FEW = 1000  # images per class, below which the discriminator sees augmented images


def accuracies(images: Images, per_class: int, seed: int, threads: int) -> dict[str, float]:
    """Test accuracy of a classifier for each kind of augmentation."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    generated = generated_views(images, per_class, seed)
    return {kind: train_classifier(images, generated, kind, seed) for kind in KINDS}


def generated_views(images: Images, per_class: int, seed: int) -> list[np.ndarray]:
    """VIEWS sets of generated images, uint8 [n, h, w, c], with the labels of the real images."""
    few = {"gan.diff_augment": ["translation", "cutout"], "gan.ada_target": 0.8} if per_class < FEW else {}
    params = load_generator({"gan.steps": GENERATOR_STEPS} | few, seed)
    seed_everything(seed)
    step = build_generator_step(params, images.train.shape[1:], 10)
    shards, labels = [images.train], images.train_labels
    options: dict[str, Any] = {
        "batch_size": min(params.batch_size, len(labels)),
        "steps": params.steps,
        "report_every": params.steps,
    }
    for _ in train(step, lambda epoch: shards, labels, seed=seed, label="gan", divergence_hint="gan.lr", **options):
        pass
    latents = draw_latents(VIEWS * len(labels), params.latent_dim, seed).reshape(VIEWS, len(labels), -1)
    return [generate(step.averaged.model, each, labels) for each in latents]


def train_classifier(images: Images, generated: Sequence[np.ndarray], kind: str, seed: int) -> float:
    """Trains a classifier with one kind of augmentation; returns its test accuracy."""
    augmentation, params = load_classifier(preset("fashion_mnist") | {"cnn.batch_size": 128, "cnn.lr": 8e-3})
    operations = [make() for make in recipe(augmentation).values()] if kind in ("classical", "both") else []

    def view(epoch: int) -> list[np.ndarray]:
        shards = [images.train]
        if kind in ("generated", "both"):
            shards.append(generated[epoch % VIEWS])
        return [augment(shard, 0, seed + k, epoch, operations) for k, shard in enumerate(shards)]

    labels = np.concatenate([images.train_labels] * len(view(0)))
    per_epoch = steps_per_epoch(view(0), params.batch_size)
    seed_everything(seed)
    # The number of epochs determines the classifier's schedule: these epochs contain all steps.
    planned = params.model_copy(update={"epochs": -(-CLASSIFIER_STEPS // per_epoch), "seed": seed})
    step = build_classifier_step(planned, images.train.shape[1:], labels, 10, per_epoch)
    options: dict[str, Any] = {
        "batch_size": params.batch_size,
        "steps": planned.epochs * per_epoch,
        "report_every": CLASSIFIER_STEPS,
    }
    for _ in train(step, view, labels, seed=seed, label=f"cnn, {kind}", divergence_hint="cnn.lr", **options):
        pass
    return accuracy(step.averaged.model.predict(images.test, batch_size=512, verbose=0), images.test_labels)


def draw(result: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Plots mean and range over the seeds: accuracy, and its gain over no augmentation."""
    sizes = list(result)
    with panel_axes(2, path) as axes:
        for colour, kind in zip(COLOURS, KINDS, strict=True):
            for axis, base in zip(axes, ("", "none"), strict=True):
                values = [
                    [value - (result[size][base][seed] if base else 0) for seed, value in result[size][kind].items()]
                    for size in sizes
                ]
                means = np.array([np.mean(each) for each in values])
                spread = np.abs(np.array([[min(each), max(each)] for each in values]).T - means)
                positions = np.arange(len(sizes)) + 0.08 * (KINDS.index(kind) - 1.5)
                style = {"color": colour, "marker": "o", "markersize": 4, "capsize": 2, "linewidth": 1}
                axis.errorbar(positions, means, spread, label=kind, **style)
        for axis, label in zip(axes, ("test accuracy", "gain over no augmentation"), strict=True):
            axis.set_xticks(range(len(sizes)), [size if size != "0" else "all" for size in sizes])
            axis.set(xlabel="real images per class", ylabel=label)
        axes[0].legend(fontsize=8, title="augmentation (bars: range of seeds)", title_fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 100, 500, 0], help="images per class; 0: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="parallel trainings, which share the processors")
    parser.add_argument("--resume", action="store_true", help="keep the results in results/augmentation_value.json")
    arguments = parser.parse_args()
    images = read_images(arguments.archive)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "augmentation_value.json"
    result: dict[str, Any] = {"machine": machine(), "accuracy": {}}
    if arguments.resume:
        result = json.loads(path.read_text(encoding="utf-8"))
    for size in arguments.sizes:
        result["accuracy"].setdefault(str(size), {kind: {} for kind in KINDS})
    missing = [
        (size, seed)
        for seed, size in product(arguments.seeds, arguments.sizes)
        if str(seed) not in result["accuracy"][str(size)]["none"]
    ]
    # A new process for each, so that no training is affected by another.
    context, threads = multiprocessing.get_context("spawn"), max(1, (os.cpu_count() or 1) // arguments.jobs)
    with ProcessPoolExecutor(arguments.jobs, context, max_tasks_per_child=1) as pool:
        running = {}
        for size, seed in missing:
            part = images.few(size, seed) if size else images
            running[pool.submit(accuracies, part, size or len(images.train) // 10, seed, threads)] = size, seed
        for done in as_completed(running):  # each result is saved at once: all take an hour
            size, seed = running[done]
            for kind, value in done.result().items():
                result["accuracy"][str(size)][kind][str(seed)] = value
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            shown = ", ".join(f"{kind} {value:.4f}" for kind, value in done.result().items())
            print(f"{size or 'all'} images per class, seed {seed}: {shown}", flush=True)
    draw(result["accuracy"], path.with_suffix(".png"))
    print(f"wrote {path} and {path.with_suffix('.png').name}")


if __name__ == "__main__":
    terminal.run_stage(main)
