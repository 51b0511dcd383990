"""Measures both networks on the test split, once, and registers them.

Reads  data/ingest (all splits), data/reference, data/train_cnn/model.keras, data/train_gan/generator.keras
Writes data/evaluate/: metrics.json, tables, serving.npz (what the registered classifier needs), report.md, pictures
"""

from pathlib import Path

import numpy as np
from pydantic import Field

from stages.lib import terminal, tracking
from stages.lib.classification_metrics import accuracy
from stages.lib.classifier_figures import draw_classifier as draw_classifier
from stages.lib.classifier_report import measure_classifier
from stages.lib.dataset import open_shards, pick, read_classes, read_images, read_labels, require
from stages.lib.evaluation_report import write_report
from stages.lib.generation import draw_latents, generate, is_conditional
from stages.lib.generator_evaluation import (
    accuracy_when_trained_on_generated,
    draw_neighbours,
    draw_samples,
    generator_metrics,
)
from stages.lib.network_files import load_network
from stages.lib.outputs import whole_folder, write_metrics
from stages.lib.params import Params, load_params
from stages.lib.reference_space import ReferenceSpace
from stages.lib.registration import register_classifier, register_generator

DATA, REFERENCE, OUTPUT = Path("data/ingest"), Path("data/reference/model.keras"), Path("data/evaluate")
CNN, GAN = Path("data/train_cnn/model.keras"), Path("data/train_gan/generator.keras")
SHOWN_NEIGHBOURS = 12


class EvaluateParams(Params):
    images: int = Field(ge=10, le=1_000_000)
    kid_subsets: int = Field(ge=2, le=10_000)
    kid_subset_size: int = Field(ge=10, le=10_000)
    cas_images: int = Field(ge=10, le=10_000_000)
    cas_steps: int = Field(ge=1, le=10**7)
    cas_batch_size: int = Field(ge=2, le=4096)
    cas_lr: float = Field(gt=0, le=1)
    resamples: int = Field(ge=100, le=100_000)
    corrupted_images: int = Field(ge=0, le=1_000_000)
    outlier_images: int = Field(ge=10, le=100_000)
    outlier_bank: int = Field(ge=0, le=100_000)
    neighbours: int = Field(ge=1, le=1000)
    accepted: float = Field(ge=0.5, lt=1)
    label_images: int = Field(ge=0, le=10_000_000)
    label_steps: int = Field(ge=1, le=10**7)
    seed: int = Field(ge=0, lt=2**31)


def measure_generator(folder: Path, params: EvaluateParams, images, labels, classes) -> tuple[dict[str, float], int]:
    """The section `gan` of metrics.json, and how many generated images were compared with as many test and train ones;
    the pictures go to `folder`."""
    generator, space = load_network(GAN), ReferenceSpace(REFERENCE)
    # The labels of the generated images are drawn from the train set: with those of the test images the two sets would
    # not be independent, and KID no longer unbiased.
    random, train_labels = np.random.default_rng(params.seed), read_labels(DATA, "train")
    train_shards = open_shards(DATA, "train")
    train_count = sum(len(shard) for shard in train_shards)
    count = min(params.images, len(labels), train_count)
    chosen = np.sort(random.permutation(len(labels))[:count])
    train_chosen = np.sort(random.permutation(train_count)[:count])
    fake_labels = random.choice(train_labels, count)
    fake = generate(generator, draw_latents(count, generator.input_shape[0][1], params.seed), fake_labels)
    fake_features, fake_probabilities = space(fake)
    test_features, test_probabilities = space(images[chosen])
    train_features, _ = space(pick(train_shards, train_chosen))
    of_kid = {"kid_subsets": params.kid_subsets, "kid_subset_size": params.kid_subset_size, "seed": params.seed}
    metrics = generator_metrics(fake_features, test_features, train_features, **of_kid) | {
        "label_accuracy": accuracy(fake_probabilities, fake_labels),
        "label_accuracy_real": accuracy(test_probabilities, labels[chosen]),
        "cas": accuracy_when_trained_on_generated(
            generator,
            train_labels,
            len(classes),
            images,
            labels,
            images=params.cas_images,
            steps=params.cas_steps,
            batch_size=params.cas_batch_size,
            lr=params.cas_lr,
            seed=params.seed,
        ),
    }
    draw_samples(folder / "samples.png", generator, classes, params.seed)
    shown = slice(0, SHOWN_NEIGHBOURS)
    draw_neighbours(folder / "neighbours.png", fake[shown], fake_features[shown], train_shards, space)
    return metrics, count


def main() -> None:
    params = load_params(EvaluateParams, "evaluate")
    require(REFERENCE, CNN, GAN)
    classes, images, labels = read_classes(DATA), read_images(DATA, "test"), read_labels(DATA, "test")
    with tracking.stage_run("evaluate", params) as run:
        with whole_folder(OUTPUT) as folder:
            cnn_scores = measure_classifier(folder, CNN, DATA, params)
            gan_scores, compared = measure_generator(folder, params, images, labels, classes)
            metrics = {"cnn": cnn_scores, "gan": gan_scores}
            write_metrics(folder / "metrics.json", metrics)
            conditional = is_conditional(load_network(GAN))
            report = write_report(metrics, len(labels), compared, conditional)
            (folder / "report.md").write_text(report, encoding="utf-8")
        for name, values in metrics.items():
            run.metrics({f"{name}.{key}": value for key, value in values.items()})
        for path in sorted(OUTPUT.iterdir()):
            run.artifact(path)
        register(run, metrics, images.shape[1:], classes, conditional)
    terminal.say(
        f"classifier: accuracy {cnn_scores['accuracy']:.4f} (95% interval {cnn_scores['accuracy_low']:.4f} to "
        f"{cnn_scores['accuracy_high']:.4f}) on {len(labels):,} test images",
        f"generator:  Frechet distance {gan_scores['fd']:.2f} (real images: {gan_scores['fd_floor']:.2f}), "
        f"label accuracy {gan_scores['label_accuracy']:.3f} (real images: {gan_scores['label_accuracy_real']:.3f}), "
        f"CAS {gan_scores['cas']:.3f}",
        f"look at {OUTPUT}/report.md, and at all runs and models with: uv run mlflow ui",
    )


def register(
    run: tracking.Run, metrics: dict[str, dict[str, float]], shape, classes: list[str], conditional: bool
) -> None:
    """Registers both networks with what a user of the registry wants to know."""
    register_classifier(run, CNN, classifier_files(), metrics["cnn"], shape, classes)
    register_generator(run, GAN, [DATA / "classes.json"], metrics["gan"], shape, classes, conditional)


def classifier_files() -> list[Path]:
    """What is registered beside the classifier's network: its classes, and the temperature and the threshold where this
    stage has written them."""
    serving = OUTPUT / "serving.npz"
    return [DATA / "classes.json", *([serving] if serving.exists() else [])]


if __name__ == "__main__":
    terminal.run_stage(main)
