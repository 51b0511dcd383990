"""Time and memory of ingest, the reading half of validate, and augment, as the number of images grows.

    python -m bench.scale [--counts 10000 100000 1000000] [--repeats 3] [--views 2] [--folder FOLDER]

Generates so many 28x28 images as PNG files in a zip, ten classes of different patches of grey, and runs each part in
processes of its own with the default params (`augment.views` excepted). The time is that of the whole command, starting
Python included, the shortest of the repetitions; the memory the sum of the most that each of its processes ever held
(VmHWM), the highest of the repetitions: at least the peak of the whole tree. Per image is what each image more costs,
from one count to the next. Writes bench/results/scale.json. The disk must hold (2 + views) KB for each image.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import psutil
import yaml

from bench.common import RESULTS, ROOT, machine
from stages.lib.terminal import UserError, run_stage

COUNTS, REPEATS, VIEWS = [10_000, 100_000, 1_000_000], 3, 2
READ = "from stages.lib.tables import read_data_set; read_data_set('data/ingest')"
PARTS = {"ingest": ["-m", "stages.ingest"], "validate, reading": ["-c", READ], "augment": ["-m", "stages.augment"]}
LIMIT = 2 * 2**30  # bytes that the largest set may take
SECONDS_BETWEEN_LOOKS = 0.02


class Cost(NamedTuple):
    seconds: float
    bytes: int  # of memory


def write_images(path: Path, count: int) -> None:
    """Different images: a grid of 7x7 greys, enlarged to 28x28."""
    with zipfile.ZipFile(path, "w") as archive:
        for start in range(0, count, 10_000):
            greys = np.random.default_rng([0, start]).integers(0, 256, (min(10_000, count - start), 7, 7), np.uint8)
            for index, image in enumerate(greys.repeat(4, axis=1).repeat(4, axis=2), start):
                data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
                archive.writestr(f"class-{index % 10}/{index:08d}.png", data.tobytes())


def prepare(project: Path, count: int, views: int) -> None:
    """A project with these images as its data set."""
    (project / "data/raw").mkdir(parents=True)
    (project / "data/validate").mkdir()
    (project / "data/validate/passed").touch()  # validate itself is not run
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["ingest"]["source"], params["augment"]["views"] = "generated.zip", views
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    write_images(project / "data/raw/generated.zip", count)


def measure(arguments: Sequence[str], project: Path) -> Cost:
    """Runs Python with these arguments in the project."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "VISIONLOOP_TRACKING": "off"}
    highest: dict[int, int] = {}
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        while process.poll() is None:
            for pid in (process.pid, *_children(process.pid)):
                highest[pid] = max(highest.get(pid, 0), _high_water(pid))
            time.sleep(SECONDS_BETWEEN_LOOKS)
        seconds = time.perf_counter() - start
        assert process.stdout is not None
        if process.returncode:
            raise UserError(f"{' '.join(arguments)} failed: {process.stdout.read().decode(errors='replace')}")
    return Cost(seconds, sum(highest.values()))


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _high_water(pid: int) -> int:
    """The most memory that a process has ever had, bytes; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def measure_all(counts: Sequence[int], repeats: int, views: int, folder: Path) -> dict[str, dict[int, Cost]]:
    """The cost of each part for each count; prints each run."""
    costs: dict[str, dict[int, Cost]] = {part: {} for part in PARTS}
    for count in counts:
        project = Path(tempfile.mkdtemp(prefix=f"scale-{count}-", dir=folder))
        try:
            prepare(project, count, views)
            for repeat in range(repeats):
                for part, arguments in PARTS.items():
                    cost = measure(arguments, project)
                    before = costs[part].get(count, cost)
                    costs[part][count] = Cost(min(cost.seconds, before.seconds), max(cost.bytes, before.bytes))
                    took = f"{cost.seconds:8.2f} s  {cost.bytes / 2**20:8,.0f} MiB"
                    print(f"{part:18} {count:>10,} images, run {repeat + 1}: {took}", flush=True)
        finally:
            shutil.rmtree(project)
    return costs


def table(costs: dict[str, dict[int, Cost]]) -> list[dict[str, Any]]:
    """A row for each part and count. `growth_ratio`: what an image more costs, over what it costs up to the count
    before."""
    rows: list[dict[str, Any]] = []
    for part, by_count in costs.items():
        before: dict[str, Any] | None = None
        for count, cost in by_count.items():
            row: dict[str, Any] = {"part": part, "images": count, "seconds": cost.seconds, "bytes": cost.bytes}
            if before:
                more = count - before["images"]
                row["microseconds_per_image"] = 1e6 * (cost.seconds - before["seconds"]) / more
                row["bytes_per_image"] = (cost.bytes - before["bytes"]) / more
                row["memory_ratio"] = cost.bytes / before["bytes"]
                if "microseconds_per_image" in before:
                    row["growth_ratio"] = row["microseconds_per_image"] / before["microseconds_per_image"]
            rows.append(row)
            before = row
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    print(f"{'part':18} {'images':>10} {'s':>8} {'MiB':>7} {'us/image':>9} {'ratio':>6} {'B/image':>8} {'ratio':>6}")
    for row in rows:
        line = f"{row['part']:18} {row['images']:10,} {row['seconds']:8.2f} {row['bytes'] / 2**20:7,.0f}"
        if "bytes_per_image" in row:
            ratio = f"{row['growth_ratio']:6.2f}" if "growth_ratio" in row else " " * 6
            line += f" {row['microseconds_per_image']:9.2f} {ratio} {row['bytes_per_image']:8.0f}"
            line += f" {row['memory_ratio']:6.2f}"
        print(line)
    largest = max(row["bytes"] for row in rows)
    print(f"most memory: {largest / 2**30:.2f} GiB, {'below' if largest < LIMIT else 'NOT below'} 2 GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--views", type=int, default=VIEWS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the images go")
    given = parser.parse_args()
    rows = table(measure_all(sorted(given.counts), given.repeats, given.views, given.folder))
    show(rows)
    result = {"run_on": machine(), "views": given.views, "repeats": given.repeats, "rows": rows}
    (RESULTS / "scale.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)
