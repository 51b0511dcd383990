"""The results of the generator's training: its files and its summary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stages.core.outputs import write_metrics, write_table
from stages.drawing.plots import learning_curves
from stages.generator.samples import Samples
from stages.generator.validation import GeneratorHistory
from stages.training.network_files import save_network

CURVES = {
    "loss": ["d_loss", "g_loss"],
    "mean logit": ["d_real", "d_fake"],
    "Frechet distance": ["val_fd"],
    "diversity (1: as real)": ["val_diversity"],
}


def write_results(
    folder: Path, network, metrics: Mapping[str, float], history: GeneratorHistory, samples: Samples
) -> None:
    """Writes generator.keras, history.csv, metrics.json, samples/, training.webp and curves.png."""
    save_network(network, folder / "generator.keras")
    write_table(folder / "history.csv", history.rows)
    write_metrics(folder / "metrics.json", {"gan": metrics})
    steps = [int(row["step"]) for row in history.rows]
    for step, images in zip(steps, history.samples, strict=True):  # also the samples from before an interruption
        samples.draw(folder, step, images)
    samples.draw_film(folder / "training.webp", steps, history.samples)
    learning_curves(history.rows, "step", CURVES, folder / "curves.png", mark=history.best_at)


def summary(metrics: Mapping[str, float], steps: int, conditional: bool) -> str:
    """One sentence for the terminal; steps: of the whole training."""
    labelled = f"; {metrics['val_label_accuracy']:.1%} of its images show the requested class"
    return (
        f"generator: Frechet distance {metrics['val_fd']:.2f} to the validation images; best step: "
        f"{metrics['best_step']} of {steps}" + (labelled if conditional else "")
    )
