"""Measures both networks on the test split, once, and registers them.

Reads  data/ingest (all splits), data/reference, data/train_cnn/model.keras, data/train_gan/generator.keras
Writes data/evaluate/: metrics.json, predictions.csv, report.md, pictures
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from stages.lib import classification_metrics as classification
from stages.lib import generative_metrics as generative
from stages.lib import terminal, tracking
from stages.lib.dataset import open_shards, pick, read_classes, read_images, read_labels, require
from stages.lib.figures import confusion_picture, reliability_picture
from stages.lib.generation import draw_latents, generate, is_conditional
from stages.lib.network_files import load_network
from stages.lib.outputs import whole_folder, write_metrics, write_table
from stages.lib.params import Params, load_params
from stages.lib.pictures import image_grid
from stages.lib.reference_space import ReferenceSpace
from stages.lib.reference_training import ReferenceTraining

DATA, REFERENCE, OUTPUT = Path("data/ingest"), Path("data/reference/model.keras"), Path("data/evaluate")
CNN, GAN = Path("data/train_cnn/model.keras"), Path("data/train_gan/generator.keras")
SHOWN_CLASSES, SHOWN_MISTAKES, SHOWN_NEIGHBOURS = 20, 24, 12
SERVING_REQUIREMENTS = ("keras", "numpy", "pandas", "tensorflow")


class EvaluateParams(Params):
    images: int = Field(ge=10, le=1_000_000)
    kid_subsets: int = Field(ge=2, le=10_000)
    kid_subset_size: int = Field(ge=10, le=10_000)
    cas_images: int = Field(ge=10, le=10_000_000)
    cas_steps: int = Field(ge=1, le=10**7)
    cas_batch_size: int = Field(ge=2, le=4096)
    cas_lr: float = Field(gt=0, le=1)
    seed: int = Field(ge=0, lt=2**31)


def classifier_metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The section `cnn` of metrics.json, from probabilities [n, classes] and labels [n] of the test images."""
    accuracy = classification.accuracy(probabilities, labels)
    low, high = classification.wilson_interval(accuracy, len(labels))
    return {
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": classification.macro_f1(probabilities, labels),
        "nll": classification.negative_log_likelihood(probabilities, labels),
        "ece": classification.expected_calibration_error(probabilities, labels),
    }


def generator_metrics(
    fake: np.ndarray, test: np.ndarray, train: np.ndarray, params: EvaluateParams
) -> dict[str, float]:
    """The part of the section `gan` of metrics.json that compares features [n, d] of as many generated, test and train
    images."""
    kid, kid_error = generative.kernel_distance(
        fake, test, subsets=params.kid_subsets, subset_size=params.kid_subset_size, seed=params.seed
    )
    precision, recall = generative.precision_and_recall(test, fake)
    return {
        "fd": generative.frechet_distance(fake, test),
        "fd_floor": generative.frechet_distance(train, test),
        "kid": kid,
        "kid_error": kid_error,
        "precision": precision,
        "recall": recall,
    }


def accuracy_when_trained_on_generated(generator, params: EvaluateParams, test_images, test_labels) -> float:
    """Classification accuracy score (CAS, Ravuri & Vinyals 2019): a classifier of the reference's design is trained on
    generated images alone, with the classes as frequent as in the train set, and tested on real ones."""
    labels = read_labels(DATA, "train")
    labels = np.random.default_rng([params.seed, 2]).permutation(labels)[: params.cas_images]
    latents = draw_latents(len(labels), generator.input_shape[0][1], params.seed + 2)
    training = ReferenceTraining(
        [generate(generator, latents, labels)],
        labels,
        len(read_classes(DATA)),
        steps=params.cas_steps,
        batch_size=params.cas_batch_size,
        lr=params.cas_lr,
        seed=params.seed,
    )
    for _ in training.reports("classifier on generated images", "lower evaluate.cas_lr"):
        pass
    return classification.accuracy(
        classification.softmax(training.network.predict(test_images, batch_size=512, verbose=0)), test_labels
    )


def main() -> None:
    params = load_params(EvaluateParams, "evaluate")
    require(REFERENCE, CNN, GAN)
    classes = read_classes(DATA)
    images, labels = read_images(DATA, "test"), read_labels(DATA, "test")
    with tracking.stage_run("evaluate", params) as run:
        with whole_folder(OUTPUT) as folder:
            cnn, generator, space = load_network(CNN), load_network(GAN), ReferenceSpace(REFERENCE)
            probabilities = classification.softmax(cnn.predict(images, batch_size=512, verbose=0))

            # As many generated, test and train images. The labels of the generated ones are drawn from the train set:
            # with those of the test images the two sets would not be independent, and KID no longer unbiased.
            random = np.random.default_rng(params.seed)
            train_shards = open_shards(DATA, "train")
            train_count = sum(len(shard) for shard in train_shards)
            count = min(params.images, len(labels), train_count)
            chosen = np.sort(random.permutation(len(labels))[:count])
            train_chosen = np.sort(random.permutation(train_count)[:count])
            fake_labels = random.choice(read_labels(DATA, "train"), count)
            fake = generate(generator, draw_latents(count, generator.input_shape[0][1], params.seed), fake_labels)
            fake_features, fake_probabilities = space(fake)
            test_features, test_probabilities = space(images[chosen])
            train_features, _ = space(pick(train_shards, train_chosen))

            metrics = {
                "cnn": classifier_metrics(probabilities, labels),
                "gan": generator_metrics(fake_features, test_features, train_features, params)
                | {
                    "label_accuracy": classification.accuracy(fake_probabilities, fake_labels),
                    "label_accuracy_real": classification.accuracy(test_probabilities, labels[chosen]),
                    "cas": accuracy_when_trained_on_generated(generator, params, images, labels),
                },
            }
            write_metrics(folder / "metrics.json", metrics)
            predicted = probabilities.argmax(axis=1)
            write_table(
                folder / "predictions.csv",
                [{"class": classes[a], "predicted": classes[b]} for a, b in zip(labels, predicted, strict=True)],
            )
            draw_classifier(folder, images, labels, probabilities, classes)
            draw_samples(folder, generator, classes, params.seed)
            draw_neighbours(folder, fake[:SHOWN_NEIGHBOURS], fake_features[:SHOWN_NEIGHBOURS], train_shards, space)
            report = write_report(metrics, len(labels), count, is_conditional(generator))
            (folder / "report.md").write_text(report, encoding="utf-8")
        for name, values in metrics.items():
            run.metrics({f"{name}.{key}": value for key, value in values.items()})
        for path in sorted(OUTPUT.iterdir()):
            run.artifact(path)
        register(run, metrics, images.shape[1:], classes, is_conditional(generator))
    cnn_scores, gan_scores = metrics["cnn"], metrics["gan"]
    terminal.say(
        f"classifier: accuracy {cnn_scores['accuracy']:.4f} (95% interval {cnn_scores['accuracy_low']:.4f} to "
        f"{cnn_scores['accuracy_high']:.4f}) on {len(labels):,} test images",
        f"generator:  Frechet distance {gan_scores['fd']:.2f} (real images: {gan_scores['fd_floor']:.2f}), "
        f"label accuracy {gan_scores['label_accuracy']:.3f} (real images: {gan_scores['label_accuracy_real']:.3f}), "
        f"CAS {gan_scores['cas']:.3f}",
        f"look at {OUTPUT}/report.md, and at all runs and models with: uv run mlflow ui",
    )


def draw_classifier(folder: Path, images, labels, probabilities, classes: list[str]) -> None:
    """Confusion matrix, reliability diagram and worst mistakes."""
    confusion_picture(classification.confusion_matrix(probabilities, labels), classes, folder / "confusion.png")
    bins = classification.calibration_bins(probabilities, labels)
    error = classification.expected_calibration_error(probabilities, labels)
    reliability_picture(*bins, error, folder / "reliability.png")
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:SHOWN_MISTAKES]
    image_grid(
        images[worst] if len(worst) else images[:1],
        folder / "mistakes.png",
        columns=6,
        captions=[f"{classes[labels[i]]} > {classes[predicted[i]]}" for i in worst] if len(worst) else ["no mistake"],
        title="most confident mistakes: class > prediction",
        tile=144,
        font_size=12,
    )


def draw_samples(folder: Path, generator, classes: list[str], seed: int) -> None:
    """Generated images, a row per class."""
    shown = np.repeat(np.arange(min(len(classes), SHOWN_CLASSES)), 12)
    samples = generate(generator, draw_latents(len(shown), generator.input_shape[0][1], seed + 1), shown)
    row_labels = classes[:SHOWN_CLASSES] if is_conditional(generator) else ()
    image_grid(samples, folder / "samples.png", columns=12, row_labels=row_labels, tile=64)


def draw_neighbours(folder: Path, fake, fake_features, train_shards: list[np.ndarray], space: ReferenceSpace) -> None:
    """Generated images beside the train images nearest to them in the reference space, of the whole train set."""
    nearest, shortest = np.zeros_like(fake), np.full(len(fake), np.inf)
    for shard in train_shards:
        features, _ = space(shard)
        index, distance = generative.nearest(fake_features, features)
        closer = distance < shortest
        nearest[closer], shortest[closer] = shard[index[closer]], distance[closer]
    image_grid(
        np.concatenate([fake, nearest]),
        folder / "neighbours.png",
        columns=len(fake),
        tile=64,
        row_labels=["generated", "nearest train image"],
        title="generated images and the train images nearest to them in the reference space",
    )


def write_report(metrics: dict[str, dict[str, float]], test_count: int, compared: int, conditional: bool) -> str:
    """report.md: the figures with what they mean, and the pictures."""
    cnn, gan = metrics["cnn"], metrics["gan"]
    note = "" if conditional else "\nIt was trained without classes: its label accuracy and CAS are those of chance.\n"
    return f"""# Evaluation

## Classifier, {test_count:,} test images

| figure | value | meaning |
|---|---|---|
| accuracy | {cnn["accuracy"]:.4f} | 95% interval {cnn["accuracy_low"]:.4f} to {cnn["accuracy_high"]:.4f} |
| macro F1 | {cnn["macro_f1"]:.4f} | mean over classes: rare ones count as much as frequent ones |
| NLL | {cnn["nll"]:.4f} | negative log-likelihood, nats; lower is better |
| ECE | {cnn["ece"]:.4f} | expected gap between confidence and accuracy; 0 is perfect |

![Confusion matrix](confusion.png)
![Reliability diagram](reliability.png)
![Most confident mistakes](mistakes.png)

## Generator, {compared:,} generated against {compared:,} test images

| figure | value | real images | meaning |
|---|---|---|---|
| FD | {gan["fd"]:.3f} | {gan["fd_floor"]:.3f} | Frechet distance in the reference space; lower is better |
| KID | {gan["kid"]:.4f} ± {gan["kid_error"]:.4f} | 0 | unbiased kernel distance and its standard error |
| precision | {gan["precision"]:.3f} | | share of generated images that look real |
| recall | {gan["recall"]:.3f} | | share of real images that the generator can make |
| label accuracy | {gan["label_accuracy"]:.3f} | {gan["label_accuracy_real"]:.3f} | share that shows its class |
| CAS | {gan["cas"]:.3f} | | test accuracy of a classifier trained on generated images only |
{note}
![Samples](samples.png)
![Nearest train images](neighbours.png)
"""


def register(
    run: tracking.Run, metrics: dict[str, dict[str, float]], shape, classes: list[str], conditional: bool
) -> None:
    """Registers both networks with what a user of the registry wants to know."""
    height, width, channels = shape
    images: dict[str, Any] = {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, *shape]}}
    probabilities = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, len(classes)]}}
    of = f"of {height}x{width} px, {'grey' if channels == 1 else 'colour'}, {len(classes)} classes"

    def tags(section: str) -> dict[str, str]:
        names = json.dumps(classes, ensure_ascii=False)
        listed = {"classes": names} if len(names) <= 5000 else {}  # MLflow's limit; classes.json is in the model too
        return listed | {f"metric.{section}.{key}": f"{value:.6g}" for key, value in metrics[section].items()}

    run.register(
        "visionloop-cnn",
        network=CNN,
        serve=Path("stages/lib/serve_classifier.py"),
        files=[DATA / "classes.json"],
        signature={"inputs": [images], "outputs": [probabilities]},
        example={"dtype": "uint8", "data": np.zeros((1, *shape), int).tolist()},
        description=f"Classifier of images {of}. Test accuracy {metrics['cnn']['accuracy']:.4f}, "
        f"macro F1 {metrics['cnn']['macro_f1']:.4f}, ECE {metrics['cnn']['ece']:.4f}. "
        "Takes uint8 images [n, height, width, channels], gives class probabilities.",
        tags=tags("cnn"),
        requirements=tracking.pinned(SERVING_REQUIREMENTS),
    )
    run.register(
        "visionloop-gan",
        network=GAN,
        serve=Path("stages/lib/serve_generator.py"),
        files=[DATA / "classes.json"],
        signature={
            "inputs": [
                {"type": "string", "name": "class", "required": True},
                {"type": "long", "name": "seed", "required": True},
            ],
            "outputs": [images],
        },
        example={"columns": {"class": classes[:2], "seed": [0, 1]}},
        description=f"Generator of images {of}. Frechet distance {metrics['gan']['fd']:.3f} "
        f"(real images {metrics['gan']['fd_floor']:.3f}), label accuracy {metrics['gan']['label_accuracy']:.4f}, "
        f"CAS {metrics['gan']['cas']:.4f}. Takes a table with `class` and `seed`, gives uint8 images."
        + ("" if conditional else " Trained without classes: it ignores `class`."),
        tags=tags("gan"),
        requirements=tracking.pinned(SERVING_REQUIREMENTS),
    )


if __name__ == "__main__":
    terminal.run_stage(main)
