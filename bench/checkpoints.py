"""Measures the cost of checkpoints: `python -m bench.checkpoints`, after `dvc repro`.

Trains the default GAN on data/ingest with and without checkpoints, in turn, three times each, and prints the ratio.
Checkpoints are written every second instead of every 30, so that there are enough of them to measure; the cost at the
default interval follows from it.
"""

import os
import statistics
import time
from pathlib import Path

from stages.core.dataset import open_shards, read_classes, read_labels
from stages.core.params import load_params
from stages.generator.training import build_step
from stages.train_gan import GanParams
from stages.training import checkpoints
from stages.training.checkpoints import Checkpoint
from stages.training.loop import train
from stages.training.tensorflow import seed_everything

DATA = Path("data/ingest")
STEPS, REPETITIONS, SECONDS = 256, 3, 1.0


def seconds_per_step(params: GanParams, interval: float | None) -> tuple[float, int]:
    """Seconds per step of the default GAN with checkpoints every `interval` seconds, and the number of checkpoints. The
    first 64 steps, which include compiling the graph, do not count."""
    shards, labels, classes = open_shards(DATA, "train"), read_labels(DATA, "train"), len(read_classes(DATA))
    seed_everything(params.seed)
    step = build_step(params, shards[0].shape[1:], classes)
    saved = 0

    class Counting(Checkpoint):
        def save(self, *arguments) -> None:
            nonlocal saved
            saved += 1
            super().save(*arguments)

    os.environ["VISIONLOOP_CHECKPOINT_SECONDS"] = str(interval or 1e9)
    checkpoint = Counting("train_gan", params, {})
    checkpoint.__dict__["key"] = "bench"  # not the key of a training that a user may want to resume
    times = []
    with checkpoint:
        reports = train(
            step,
            lambda epoch: shards,
            labels,
            batch_size=min(params.batch_size, len(labels)),
            steps=64 + STEPS,
            report_every=64,
            seed=0,
            label="gan",
            divergence_hint="",
            checkpoint=checkpoint,
        )
        for _ in reports:
            times.append(time.perf_counter())
    return (times[-1] - times[0]) / STEPS, saved


def main() -> None:
    params = load_params(GanParams, "gan")
    without, with_them = [], []
    for _ in range(REPETITIONS):
        without.append(seconds_per_step(params, None)[0])
        seconds, saved = seconds_per_step(params, SECONDS)
        with_them.append(seconds)
        print(f"{without[-1] * 1e3:.2f} ms a step without, {seconds * 1e3:.2f} ms with {saved} checkpoints", flush=True)
    ratio = statistics.median(with_them) / statistics.median(without)
    print(f"ratio with a checkpoint every {SECONDS:.0f} s: {ratio:.4f}")
    default = checkpoints.SECONDS_BETWEEN_SAVES
    print(f"which is, every {default:.0f} s: {1 + (ratio - 1) * SECONDS / default:.4f}")


if __name__ == "__main__":
    main()
