"""Compares outputs and speed of two commits: `python -m bench.layout [--base COMMIT] [--repeats 3]`

Clones this repository at both commits, runs `dvc repro` on the digits in each, in turn and from scratch, then once more
with nothing to do, and compares every file below data/. RENAMED lists files that moved; `difference` knows the files
that may have gained content. Writes bench/results/layout.json.
"""

import argparse
import csv
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.common import RESULTS, ROOT, machine
from stages.running.terminal import UserError, run_stage, say

BASE = "7d5571f"  # the last commit with one stage `evaluate`
GENERATOR_FILES = ("copies.png", "copies_pixels.png", "memorisation.png", "neighbours.png", "samples.png", "walk.webp")
RENAMED = {f"data/evaluate/{name}": f"data/evaluate_gan/{name}" for name in GENERATOR_FILES} | {
    f"data/evaluate/generator_classes.{suffix}": f"data/evaluate_gan/classes.{suffix}" for suffix in ("csv", "png")
}


def clone(commit: str, folder: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=folder, check=True)


def seconds_of_repro(folder: Path) -> float:
    """The seconds that `dvc repro` takes in `folder`. Raises UserError with its last lines when it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        output = (done.stdout + done.stderr)[-2000:]
        raise UserError(f"`dvc repro` in {folder} failed with exit code {done.returncode}: {output}")
    return time.perf_counter() - start


def remove_results(folder: Path) -> None:
    """Removes all results of a run, so that the next one starts from scratch."""
    for name in (".dvc/cache", ".dvc/tmp", ".visionloop", "mlartifacts"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "mlflow.db").unlink(missing_ok=True)
    subprocess.run(["git", "clean", "-fdxq", "data"], cwd=folder, check=True)
    subprocess.run(["git", "reset", "--hard", "--quiet"], cwd=folder, check=True)


def files_below(folder: Path) -> dict[str, str]:
    """The sha256 of each file that stages wrote, by its path in the repository."""
    paths = (path for path in (folder / "data").rglob("*") if path.is_file() and "raw" not in path.parts)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def compare(base: Path, now: Path) -> list[list[str]]:
    """A row for each file of the base: its path in the other commit, and whether its content is the same."""
    before, after = files_below(base), files_below(now)
    rows = []
    for path, sha256 in sorted(before.items()):
        new_path = RENAMED.get(path, path.replace("data/evaluate/", "data/evaluate_cnn/"))
        same = after.get(new_path) == sha256
        rows.append([path, new_path, "same bytes" if same else difference(path, base, now)])
    return rows


def difference(path: str, base: Path, now: Path) -> str:
    """For a file with other bytes: whether it still contains all of the old content."""
    if path == "data/evaluate/metrics.json":
        metrics = json.loads((base / path).read_text())
        new: dict[str, Any] = {}
        for network in metrics:
            new |= json.loads((now / f"data/evaluate_{network}/metrics.json").read_text())
        return "same metrics, in two files" if new == metrics else "DIFFERENT"
    if path == "data/evaluate/predictions.csv":
        old, new_rows = (
            list(csv.DictReader((folder / table).open(encoding="utf-8", newline="")))
            for folder, table in ((base, path), (now, "data/evaluate_cnn/predictions.csv"))
        )
        old_columns = [{name: row[name] for name in old[0]} for row in new_rows]
        return "same rows, more columns" if old_columns == old else "DIFFERENT"
    if path == "data/evaluate/report.md":
        numbers = set(_numbers((base / path).read_text(encoding="utf-8")))
        pages = "".join((now / f"data/evaluate_{n}/report.md").read_text(encoding="utf-8") for n in ("cnn", "gan"))
        return "same numbers, in two pages" if numbers <= set(_numbers(pages)) else "DIFFERENT"
    return "DIFFERENT"


def _numbers(text: str) -> Iterable[str]:
    cells = (cell.strip() for line in text.splitlines() if line.startswith("|") for cell in line.split("|"))
    return (cell for cell in cells if cell[:1].isdigit())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.layout", description=__doc__)
    parser.add_argument("--base", default=BASE, help="the commit to compare with; default: %(default)s")
    parser.add_argument("--commit", default="HEAD", help="the other commit; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turn; default: %(default)s")
    arguments = parser.parse_args()
    times: dict[str, Any] = {"base": [], "now": [], "base_nothing": [], "now_nothing": []}
    with tempfile.TemporaryDirectory(prefix="layout-") as name:
        folders = {"base": Path(name) / "base", "now": Path(name) / "now"}
        clone(arguments.base, folders["base"])
        clone(arguments.commit, folders["now"])
        for _ in range(arguments.repeats):
            for side, folder in folders.items():
                remove_results(folder)
                times[side].append(seconds_of_repro(folder))
                times[f"{side}_nothing"].append(seconds_of_repro(folder))
                say(f"{side}: {times[side][-1]:.1f} s, with nothing to do {times[f'{side}_nothing'][-1]:.1f} s")
        rows = compare(folders["base"], folders["now"])
    print(tabulate(rows, headers=[f"at {arguments.base}", "now", "content"]))
    medians = {side: statistics.median(values) for side, values in times.items()}
    print(
        f"\ndvc repro, median of {arguments.repeats}: {medians['base']:.1f} s before, {medians['now']:.1f} s now, "
        f"ratio {medians['now'] / medians['base']:.2f}; with nothing to do {medians['base_nothing']:.1f} and "
        f"{medians['now_nothing']:.1f} s"
    )
    RESULTS.mkdir(exist_ok=True)
    record = {"machine": machine(), "base": arguments.base, "seconds": times, "files": rows}
    (RESULTS / "layout.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if different := [row[0] for row in rows if row[2] == "DIFFERENT"]:
        raise UserError(f"{len(different)} of {len(rows)} files differ: {', '.join(different[:10])}")
    say(f"all {len(rows)} files kept their content")


if __name__ == "__main__":
    run_stage(main)
