"""Compares whole trainings of the default generator on several workers with other seeds in one process.

    python -m bench.workers [--seeds 0 1 2 3 4] [--workers 2 4]    after `dvc repro`

Trains the generator on data/ingest in one process with each seed, and with the first seed on 2 and on 4 workers,
processes of this machine that find each other by TF_CONFIG. A short training on workers ends with the same weights as
in one process; in a long one rounding errors grow, so the validation metrics are compared, with their range over seeds.
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

METRICS = ("val_fd", "val_diversity", "val_label_accuracy")
INPUTS = ("data/ingest", "data/validate", "data/reference")


def configurations(workers: int) -> list[str]:
    """TF_CONFIG of each worker; empty for a single one."""
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
    """Runs the stage in its own folder; returns its metrics. Raises UserError with the output of a failed worker."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        params["gan"] |= {"seed": seed} | ({"steps": steps, "evaluate_every": steps} if steps else {})
        (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        copy_pipeline(project)
        for folder in INPUTS:
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
        outputs = [process.communicate()[0] for process in processes]
        seconds = time.perf_counter() - start
        for process, output in zip(processes, outputs, strict=True):
            if process.returncode:
                raise UserError(f"one of {workers} workers failed: {output[-2000:]}")
        values = json.loads((project / "data/train_gan/metrics.json").read_text(encoding="utf-8"))["gan"]
        print(
            f"seed {seed}, {workers} {'workers' if workers > 1 else 'process'}: {seconds:5.0f} s, "
            + ", ".join(f"{metric} {values[metric]:.4f}" for metric in METRICS),
            flush=True,
        )
        return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--steps", type=int, help="training steps; default: gan.steps of params.yaml")
    arguments = parser.parse_args()
    for folder in INPUTS:
        if not (ROOT / folder).is_dir():
            raise UserError(f"{folder} not found: run `dvc repro` first")
    single = [train(seed, 1, arguments.steps) for seed in arguments.seeds]
    several = {workers: train(arguments.seeds[0], workers, arguments.steps) for workers in arguments.workers}
    print(f"\n{'':20s} {'one process: mean and range':>34s}" + "".join(f"{n:>4d} workers" for n in several))
    for metric in METRICS:
        values = [each[metric] for each in single]
        spread = f"{statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})"
        print(f"{metric:20s} {spread:>34s}" + "".join(f"{each[metric]:12.4f}" for each in several.values()))


if __name__ == "__main__":
    run_stage(main)
