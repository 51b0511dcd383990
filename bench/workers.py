"""Whole trainings of the default generator on several workers beside those of other seeds: `python -m bench.workers`,
after `dvc repro`.

    python -m bench.workers [--seeds 0 1 2 3 4] [--workers 2 4]

Trains the generator on data/ingest alone with each seed, and with the first seed on 2 and on 4 workers, processes of
this machine that find each other by TF_CONFIG. Workers end a short training with the weights of one process; in a long
one rounding grows, and what there is to compare are the validation figures, with their range over the seeds.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import yaml

from bench.common import ROOT, copy_pipeline
from stages.running.terminal import UserError, run_stage

FIGURES = ("val_fd", "val_diversity", "val_label_accuracy")
NEEDED = ("data/ingest", "data/validate", "data/reference")


def configurations(workers: int) -> list[str]:
    """TF_CONFIG of each worker; empty for one alone."""
    if workers == 1:
        return [""]
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(workers)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        hosts = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    tasks = [{"cluster": {"worker": hosts}, "task": {"type": "worker", "index": k}} for k in range(workers)]
    return [json.dumps(task) for task in tasks]


def train(seed: int, workers: int, steps: int | None) -> dict[str, float]:
    """Runs the stage in a folder of its own. Raises UserError with what a worker said that failed."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["gan"] |= {"seed": seed} | ({"steps": steps, "evaluate_every": steps} if steps else {})
        (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        copy_pipeline(project)
        for folder in NEEDED:
            shutil.copytree(ROOT / folder, project / folder)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "VISIONLOOP_TRACKING": "off"}
        command, start = [sys.executable, "-m", "stages.train_gan"], time.perf_counter()
        processes = [
            subprocess.Popen(
                command,
                cwd=project,
                env=environment | {"TF_CONFIG": configuration},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for configuration in configurations(workers)
        ]
        said = [process.communicate()[0] for process in processes]
        seconds = time.perf_counter() - start
        for process, text in zip(processes, said, strict=True):
            if process.returncode:
                raise UserError(f"a worker of {workers} failed: {text[-2000:]}")
        figures = json.loads((project / "data/train_gan/metrics.json").read_text(encoding="utf-8"))["gan"]
        print(
            f"seed {seed}, {workers} {'workers' if workers > 1 else 'process'}: {seconds:5.0f} s, "
            + ", ".join(f"{figure} {figures[figure]:.4f}" for figure in FIGURES),
            flush=True,
        )
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--steps", type=int, help="instead of those of params.yaml")
    given = parser.parse_args()
    for folder in NEEDED:
        if not (ROOT / folder).is_dir():
            raise UserError(f"{folder} not found: run `dvc repro` first")
    alone = [train(seed, 1, given.steps) for seed in given.seeds]
    several = {workers: train(given.seeds[0], workers, given.steps) for workers in given.workers}
    print(f"\n{'':20s} {'seeds alone: mean and range':>34s}" + "".join(f"{n:>4d} workers" for n in several))
    for figure in FIGURES:
        values = [each[figure] for each in alone]
        spread = f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"
        print(f"{figure:20s} {spread:>34s}" + "".join(f"{each[figure]:12.4f}" for each in several.values()))


if __name__ == "__main__":
    run_stage(main)
