"""Measures the generator against the test split, and registers it.

Reads  data/ingest (all splits), data/reference, data/train_gan/generator.keras
Writes data/evaluate_gan/: metrics.json, a table, report.md, pictures
"""

from pathlib import Path

from pydantic import Field

from stages.core.dataset import require
from stages.core.outputs import atomic_folder, write_metrics
from stages.core.params import Params, load_params
from stages.evaluation.generator.page import write_page
from stages.evaluation.generator.registration import register
from stages.evaluation.generator.report import GeneratorReport
from stages.running import terminal
from stages.running.tracking.record import stage_run

DATA, GAN, OUTPUT = Path("data/ingest"), Path("data/train_gan/generator.keras"), Path("data/evaluate_gan")
REFERENCE, SECOND = Path("data/reference/model.keras"), Path("data/reference/second.keras")


class EvaluateGanParams(Params):
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
    seed: int = Field(ge=0, lt=2**31)


def evaluate(params: EvaluateGanParams, folder: Path) -> dict[str, float]:
    """Writes metrics, the table, pictures and the page into `folder`; returns the metrics."""
    report = GeneratorReport(folder, GAN, REFERENCE, SECOND, DATA, params)
    metrics = report.write()
    write_metrics(folder / "metrics.json", {"gan": metrics})
    page = write_page(metrics, report.count, report.conditional, params.near_copy)
    (folder / "report.md").write_text(page, encoding="utf-8")
    return metrics


def main() -> None:
    params = load_params(EvaluateGanParams, "evaluate_gan")
    require(DATA, REFERENCE, SECOND, GAN)
    with stage_run("evaluate_gan", params) as run:
        with atomic_folder(OUTPUT) as folder:
            metrics = evaluate(params, folder)
        run.metrics({f"gan.{name}": value for name, value in metrics.items()})
        for path in sorted(OUTPUT.iterdir()):
            run.artifact(path)
        register(run, metrics, DATA)
    terminal.say(
        f"generator: Frechet distance {metrics['fd']:.2f} (real images: {metrics['fd_floor']:.2f}), "
        f"label accuracy {metrics['label_accuracy']:.3f} (real images: {metrics['label_accuracy_real']:.3f}), "
        f"CAS {metrics['cas']:.3f}",
        f"look at {OUTPUT}/report.md, and at all runs and models with: uv run mlflow ui",
    )


if __name__ == "__main__":
    terminal.run_stage(main)
