"""Measures the classifier on the test split, once, and registers it.

Reads  data/ingest (all splits), data/train_cnn/model.keras
Writes data/evaluate_cnn/: metrics.json, tables, serving.npz (for the registered classifier), report.md, pictures
"""

from pathlib import Path

from pydantic import Field

from stages.core.dataset import read_labels, require
from stages.core.outputs import atomic_folder, write_metrics
from stages.core.params import Params, load_params
from stages.evaluation.classifier.page import write_page
from stages.evaluation.classifier.registration import register
from stages.evaluation.classifier.report import ClassifierReport
from stages.running import terminal
from stages.running.tracking.record import stage_run

DATA, CNN, OUTPUT = Path("data/ingest"), Path("data/train_cnn/model.keras"), Path("data/evaluate_cnn")


class EvaluateCnnParams(Params):
    resamples: int = Field(ge=100, le=100_000)
    corrupted_images: int = Field(ge=0, le=1_000_000)
    outlier_images: int = Field(ge=10, le=100_000)
    outlier_bank: int = Field(ge=0, le=100_000)
    neighbours: int = Field(ge=1, le=1000)
    accepted: float = Field(ge=0.5, lt=1)
    label_images: int = Field(ge=0, le=10_000_000)
    label_steps: int = Field(ge=1, le=10**7)
    label_batch_size: int = Field(ge=2, le=4096)
    label_lr: float = Field(gt=0, le=1)
    seed: int = Field(ge=0, lt=2**31)


def evaluate(params: EvaluateCnnParams, folder: Path) -> dict[str, float]:
    """Writes metrics, tables, pictures and the page into `folder`; returns the metrics."""
    report = ClassifierReport(folder, CNN, DATA, params)
    metrics = report.write()
    write_metrics(folder / "metrics.json", {"cnn": metrics})
    (folder / "report.md").write_text(write_page(metrics, len(report.labels)), encoding="utf-8")
    return metrics


def main() -> None:
    params = load_params(EvaluateCnnParams, "evaluate_cnn")
    require(DATA, CNN)
    with stage_run("evaluate_cnn", params) as run:
        with atomic_folder(OUTPUT) as folder:
            metrics = evaluate(params, folder)
        run.metrics({f"cnn.{name}": value for name, value in metrics.items()})
        for path in sorted(OUTPUT.iterdir()):
            run.artifact(path)
        register(run, metrics, DATA)
    terminal.say(
        f"classifier: accuracy {metrics['accuracy']:.4f} (95% interval {metrics['accuracy_low']:.4f} to "
        f"{metrics['accuracy_high']:.4f}) on {len(read_labels(DATA, 'test')):,} test images",
        f"look at {OUTPUT}/report.md, and at all runs and models with: uv run mlflow ui",
    )


if __name__ == "__main__":
    terminal.run_stage(main)
