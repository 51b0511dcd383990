"""Measures both networks on the test split, once, and registers them.

Reads  data/ingest (all splits), data/reference, data/train_cnn/model.keras, data/train_gan/generator.keras
Writes data/evaluate/: metrics.json, tables, serving.npz (what the registered classifier needs), report.md, pictures
"""

from pathlib import Path

from pydantic import Field

from stages.lib import terminal, tracking
from stages.lib.classifier_report import ClassifierReport
from stages.lib.dataset import open_shards, read_classes, require
from stages.lib.evaluation_report import write_report
from stages.lib.generator_report import GeneratorReport
from stages.lib.outputs import whole_folder, write_metrics
from stages.lib.params import Params, load_params
from stages.lib.registration import register_classifier, register_generator

DATA, OUTPUT = Path("data/ingest"), Path("data/evaluate")
REFERENCE, SECOND = Path("data/reference/model.keras"), Path("data/reference/second.keras")
CNN, GAN = Path("data/train_cnn/model.keras"), Path("data/train_gan/generator.keras")


class EvaluateParams(Params):
    images: int = Field(ge=10, le=1_000_000)
    kid_subsets: int = Field(ge=2, le=10_000)
    kid_subset_size: int = Field(ge=10, le=10_000)
    fd_sizes: int = Field(ge=2, le=100)
    fd_draws: int = Field(ge=1, le=1000)
    class_images: int = Field(ge=2, le=1_000_000)
    memorisation_images: int = Field(ge=10, le=1_000_000)
    near_copy: float = Field(gt=0, le=0.5)
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


def main() -> None:
    params = load_params(EvaluateParams, "evaluate")
    require(DATA, REFERENCE, SECOND, CNN, GAN)
    with tracking.stage_run("evaluate", params) as run:
        with whole_folder(OUTPUT) as folder:
            classifier = ClassifierReport(folder, CNN, DATA, params)
            cnn = classifier.write()
            generator = GeneratorReport(folder, GAN, REFERENCE, SECOND, DATA, params)
            gan = generator.write()
            metrics, tested, conditional = {"cnn": cnn, "gan": gan}, len(classifier.labels), generator.conditional
            write_metrics(folder / "metrics.json", metrics)
            report = write_report(metrics, tested, generator.count, conditional, params.near_copy)
            (folder / "report.md").write_text(report, encoding="utf-8")
        for name, values in metrics.items():
            run.metrics({f"{name}.{key}": value for key, value in values.items()})
        for path in sorted(OUTPUT.iterdir()):
            run.artifact(path)
        register(run, metrics, open_shards(DATA, "test")[0].shape[1:], read_classes(DATA), conditional)
    terminal.say(
        f"classifier: accuracy {cnn['accuracy']:.4f} (95% interval {cnn['accuracy_low']:.4f} to "
        f"{cnn['accuracy_high']:.4f}) on {tested:,} test images",
        f"generator:  Frechet distance {gan['fd']:.2f} (real images: {gan['fd_floor']:.2f}), "
        f"label accuracy {gan['label_accuracy']:.3f} (real images: {gan['label_accuracy_real']:.3f}), "
        f"CAS {gan['cas']:.3f}",
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
