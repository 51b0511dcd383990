"""Measures time and memory of ingest, the reading part of validate, and augment, as the number of images grows.

    python -m bench.scale [--counts 10000 100000 1000000] [--repeats 3] [--views 4] [--folder FOLDER] [--training]

Generates this number of 28x28 images as PNG files in a zip, ten classes of different grey patches, and runs each part
in its own processes with the default params (except `augment.views`). Times are of the whole command, including the
start of Python; `CPU` is the processor time of its processes, which other load on the machine affects less; both are
the minimum over the repetitions. Memory is the sum over its processes of their peaks of anonymous pages: the system can
reclaim mapped files, such as shards, at any time. `with files` includes them (VmHWM), an upper bound of the peak of the
whole tree. Both are the maximum over the repetitions. Per-image values are the cost of each additional image, from one
count to the next. Writes bench/results/scale.json. The disk must hold (2 + views) KB for each image.

`--training` also runs the stages from `reference` to `evaluate_gan`, once each, with small networks and few steps but
an epoch of the classifier over all images, to measure their memory.
"""

import argparse
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import psutil
import yaml

from bench.common import RESULTS, ROOT, copy_pipeline, machine
from stages.running.terminal import UserError, run_stage

COUNTS, REPEATS, VIEWS = [10_000, 100_000, 1_000_000], 3, 4
FEW, REPEATS_OF_FEW = 100_000, 7  # runs with few images are short, and easily disturbed
READ = "from stages.validation.tables import read_data_set; read_data_set('data/ingest')"
# Worker processes for the smaller sets as well; otherwise their start would count as the cost of additional images.
AUGMENT = "from stages import augment; from stages.augmentation import views; views.SMALL = 0; augment.main()"
PARTS = {"ingest": ["-m", "stages.ingest"], "validate, reading": ["-c", READ], "augment": ["-c", AUGMENT]}
STAGES = ("reference", "train_cnn", "train_gan", "evaluate_cnn", "evaluate_gan")
BRIEF: dict[str, dict[str, Any]] = {
    "reference": {"steps": 20},
    "cnn": {"width": 4, "epochs": 1, "batch_size": 512},
    "gan": {"width": 4, "steps": 20, "evaluate_every": 20},
    "evaluate_cnn": {"resamples": 100, "label_steps": 10},
    "evaluate_gan": {"cas_steps": 20},
}
LIMIT = 2 * 2**30  # bytes of memory allowed for the largest set
PER_IMAGE = ("seconds", "cpu_seconds", "bytes")
POLL_SECONDS, CHILDREN_POLL_SECONDS = 0.05, 0.25


class Cost(NamedTuple):
    """The cost of a command."""

    seconds: float
    cpu_seconds: float
    bytes: int  # of memory, without mapped files
    bytes_with_files: int


def write_images(path: Path, count: int) -> None:
    """Writes a zip of distinct images: grids of 7x7 greys, enlarged to 28x28."""
    with zipfile.ZipFile(path, "w") as archive:
        for start in range(0, count, 10_000):
            greys = np.random.default_rng([0, start]).integers(0, 256, (min(10_000, count - start), 7, 7), np.uint8)
            for index, image in enumerate(greys.repeat(4, axis=1).repeat(4, axis=2), start):
                data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
                archive.writestr(f"class-{index % 10}/{index:08d}.png", data.tobytes())


def prepare(project: Path, count: int, views: int) -> None:
    """Creates a project with `count` images as its data set."""
    (project / "data/raw").mkdir(parents=True)
    (project / "data/validate").mkdir()
    (project / "data/validate/passed").touch()  # validate itself is not run
    copy_pipeline(project)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["ingest"]["source"], params["augment"]["views"] = "generated.zip", views
    for section, brief in BRIEF.items():
        params[section] |= brief
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    write_images(project / "data/raw/generated.zip", count)


def measure(arguments: Sequence[str], project: Path) -> Cost:
    """Runs Python with these arguments in the project; returns the cost. Raises UserError when it fails."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "VISIONLOOP_TRACKING": "off"}
    environment.pop("DASK_SCHEDULER_ADDRESS", None)
    anonymous_peaks, high_waters, cpu = dict[int, int](), dict[int, int](), dict[int, float]()  # by process
    start = polled = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        family = {process.pid: psutil.Process(process.pid)}
        ends = os.pidfd_open(process.pid)
        while process.poll() is None:
            if time.perf_counter() - polled > CHILDREN_POLL_SECONDS:
                with suppress(psutil.NoSuchProcess):
                    family |= {child.pid: child for child in family[process.pid].children(recursive=True)}
                polled = time.perf_counter()
            for pid, member in family.items():
                with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                    anonymous, high_water = _memory(pid)
                    anonymous_peaks[pid] = max(anonymous_peaks.get(pid, 0), anonymous)
                    high_waters[pid] = max(high_waters.get(pid, 0), high_water)
                    times = member.cpu_times()
                    cpu[pid] = max(cpu.get(pid, 0.0), times.user + times.system)
            select.select([ends], [], [], POLL_SECONDS)
        seconds = time.perf_counter() - start
        os.close(ends)
        assert process.stdout is not None
        if process.returncode:
            raise UserError(f"{' '.join(arguments)} failed: {process.stdout.read().decode(errors='replace')}")
    return Cost(seconds, sum(cpu.values()), sum(anonymous_peaks.values()), sum(high_waters.values()))


def _memory(pid: int) -> tuple[int, int]:
    """Bytes of memory of a process without mapped files, and its peak with them; 0 for a zombie process."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    anonymous, high_water = (int(lines.get(name, "0 kB").split()[0]) * 1024 for name in ("RssAnon", "VmHWM"))
    return anonymous, high_water


def measure_all(
    counts: Sequence[int], repeats: int, views: int, folder: Path, training: bool
) -> dict[str, dict[int, Cost]]:
    """The cost of each part for each count; prints each run."""
    stages = STAGES if training else ()
    costs: dict[str, dict[int, Cost]] = {part: {} for part in (*PARTS, *stages)}
    for count in counts:
        project = Path(tempfile.mkdtemp(prefix=f"scale-{count}-", dir=folder))
        try:
            prepare(project, count, views)
            for repeat in range(repeats if count > FEW else max(repeats, REPEATS_OF_FEW)):
                for part, arguments in PARTS.items():
                    cost = measure(arguments, project)
                    before = costs[part].get(count, cost)
                    costs[part][count] = Cost(
                        min(cost.seconds, before.seconds),
                        min(cost.cpu_seconds, before.cpu_seconds),
                        max(cost.bytes, before.bytes),
                        max(cost.bytes_with_files, before.bytes_with_files),
                    )
                    print_cost(part, count, repeat, cost)
            for stage in stages:
                costs[stage][count] = measure(["-m", f"stages.{stage}"], project)
                print_cost(stage, count, 0, costs[stage][count])
        finally:
            shutil.rmtree(project)
    return costs


def print_cost(part: str, count: int, repeat: int, cost: Cost) -> None:
    text = f"{cost.seconds:8.2f} s {cost.cpu_seconds:8.2f} s CPU {cost.bytes / 2**20:7,.0f} MiB"
    text += f" ({cost.bytes_with_files / 2**20:7,.0f} with files)"
    print(f"{part:18} {count:>10,} images, run {repeat + 1}: {text}", flush=True)


def table(costs: dict[str, dict[int, Cost]]) -> list[dict[str, Any]]:
    """A row for each part and count. `more`: the cost of an additional image; `ratio`: this cost relative to the one at
    the count before, or None when that was 0."""
    rows: list[dict[str, Any]] = []
    for part, by_count in costs.items():
        before: dict[str, Any] | None = None
        for count, cost in by_count.items():
            row: dict[str, Any] = {"part": part, "images": count, **cost._asdict()}
            if before:
                more = {name: (row[name] - before[name]) / (count - before["images"]) for name in PER_IMAGE}
                row["more"] = more
                if "more" in before:
                    earlier = before["more"]
                    row["ratio"] = {name: more[name] / earlier[name] if earlier[name] > 0 else None for name in more}
            rows.append(row)
            before = row
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    print("cost of an additional image, and its ratio to the cost at the count before")
    titles = "us/image", "ratio", "CPU us", "ratio", "B/image", "ratio"
    print(
        f"{'part':18} {'images':>10} {'s':>7} {'CPU s':>7} {'MiB':>6} {'with files':>10}", *(f"{t:>8}" for t in titles)
    )
    for row in rows:
        line = f"{row['part']:18} {row['images']:10,} {row['seconds']:7.2f} {row['cpu_seconds']:7.2f}"
        line += f" {row['bytes'] / 2**20:6,.0f} {row['bytes_with_files'] / 2**20:10,.0f}"
        for name, unit in zip(PER_IMAGE, (1e6, 1e6, 1), strict=True) if "more" in row else ():
            ratio = row["ratio"][name] if "ratio" in row else None
            line += f" {row['more'][name] * unit:8.1f} " + (f"{ratio:8.2f}" if ratio is not None else " " * 8)
        print(line)
    largest = max(row["bytes_with_files"] for row in rows if row["part"] in PARTS)
    print(f"peak memory, with files: {largest / 2**30:.2f} GiB, {'below' if largest < LIMIT else 'NOT below'} 2 GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--views", type=int, default=VIEWS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="folder for the images")
    parser.add_argument(
        "--training", action="store_true", help="also run the stages from `reference` to `evaluate_gan`"
    )
    arguments = parser.parse_args()
    rows = table(
        measure_all(sorted(arguments.counts), arguments.repeats, arguments.views, arguments.folder, arguments.training)
    )
    show(rows)
    result = {"run_on": machine(), "views": arguments.views, "repeats": arguments.repeats, "rows": rows}
    (RESULTS / "scale.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
