"""Learning-rate range test (Smith 2017): rates and losses, the suggestion and its plot."""

from pathlib import Path
from typing import Any

import numpy as np

from stages.classifier.data import read_classifier_data
from stages.classifier.training import build_step
from stages.core.dataset import require
from stages.core.params import load_params
from stages.drawing.plots import COLOURS, panel_axes
from stages.running import terminal
from stages.running.checkout import main_checkout
from stages.running.terminal import UserError
from stages.train_cnn import DATA, VIEWS, CnnParams
from stages.training.loop import train
from stages.training.tensorflow import seed_everything, tf

LOWEST, HIGHEST = 1e-5, 10.0
SMOOTHING = 0.95  # decay of the running mean of the loss
DIVERGED = 3.0  # times the lowest smoothed loss
SAFETY = 10.0  # rate of the lowest loss divided by the suggested rate


def rate_at(index: Any, steps: int) -> Any:
    """The rate in step `index` of `steps`, growing exponentially from LOWEST in the first to HIGHEST in the last."""
    return LOWEST * (HIGHEST / LOWEST) ** (index / max(1, steps - 1))


def smooth(losses: np.ndarray) -> np.ndarray:
    """Exponential moving average [n] of losses [n], corrected for its start at 0 (Kingma & Ba 2015)."""
    means, mean = [], 0.0
    for count, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        means.append(mean / (1 - SMOOTHING**count))
    return np.array(means)


def suggest(rates: np.ndarray, smoothed: np.ndarray) -> float:
    """A tenth of the rate at which the smoothed loss is lowest, one significant digit; both float [n].

    Raises UserError when the loss never fell.
    """
    lowest = int(smoothed.argmin())
    if lowest == 0 or smoothed[lowest] > 0.95 * smoothed[0]:
        raise UserError(
            f"the loss fell at no rate from {rates[0]:.0e} to {rates[-1]:.0e}: use more --steps, or check the data"
        )
    return float(f"{rates[lowest] / SAFETY:.0e}")


def range_test(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Rates and losses of the steps of a classifier's training, until it diverges."""
    params = load_params(CnnParams, "cnn")
    require(DATA, VIEWS)
    data = read_classifier_data(DATA, VIEWS, params.arch)
    seed_everything(params.seed)
    step = build_step(params, data.shape, data.labels, data.classes, per_epoch=steps)
    step.rate = lambda index: rate_at(tf.cast(index, tf.float32), steps)
    losses: list[float] = []
    reports = train(
        step,
        lambda epoch: data.views[epoch % len(data.views)],
        data.labels,
        batch_size=min(params.batch_size, len(data.labels)),
        steps=steps,
        report_every=1,
        seed=params.seed,
        label="learning rates",
        divergence_hint="",
    )
    try:
        for report in reports:
            losses.append(report.means["loss"])
            if smooth(np.array(losses))[-1] > DIVERGED * smooth(np.array(losses)).min():
                break
    except UserError:  # the loss is no longer finite: the test ends here as well
        if not losses:
            raise
    return rate_at(np.arange(len(losses)), steps), np.array(losses)


def draw(rates: np.ndarray, losses: np.ndarray, suggestion: float, path: Path) -> None:
    """Plots the loss over the rate, and the suggestion."""
    smoothed = smooth(losses)
    low, high = smoothed.min(), smoothed[: len(smoothed) // 2].max()
    path.parent.mkdir(parents=True, exist_ok=True)
    with panel_axes(1, path) as (axis,):
        axis.plot(rates, losses, color="lightgrey", linewidth=1, label="loss of one batch")
        axis.plot(rates, smoothed, color=COLOURS[0], label="smoothed")
        axis.axvline(rates[smoothed.argmin()], color="grey", linestyle=":", label="lowest")
        axis.axvline(suggestion, color=COLOURS[1], linestyle="--", label=f"suggestion: {suggestion:g}")
        axis.set(xscale="log", xlabel="learning rate", ylabel="loss (nats)")
        axis.set(ylim=(0.9 * low, high + 0.5 * (high - low)))
        axis.legend(fontsize=8)


def suggest_rate(network: str, steps: int) -> None:
    """Tests the rates on the network of a section of params.yaml, draws the curve and prints the suggestion. Raises
    UserError when the loss never fell."""
    rates, losses = range_test(steps)
    suggestion = suggest(rates, smooth(losses))
    path = main_checkout() / ".visionloop" / "lr_finder" / f"{network}.png"
    draw(rates, losses, suggestion, path)
    terminal.say(
        f"suggestion: {network}.lr={suggestion:g}, a tenth of the rate at which the smoothed loss is lowest",
        f"plot: {path}",
    )
