"""Does another commit make the same bytes, and is it as fast? `python -m bench.layout [--base COMMIT] [--repeats 3]`

Clones this repository at both commits, runs `dvc repro` on the digits in each, in turn and from nothing, then once more
with nothing to do, and compares every file below data/. Files that moved are found by RENAMED; files that may differ by
GAINED, with what they must still hold. Writes bench/results/layout.json.
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
OF_GENERATOR = ("copies.png", "copies_pixels.png", "memorisation.png", "neighbours.png", "samples.png", "walk.webp")
RENAMED = {f"data/evaluate/{name}": f"data/evaluate_gan/{name}" for name in OF_GENERATOR} | {
    f"data/evaluate/generator_classes.{ending}": f"data/evaluate_gan/classes.{ending}" for ending in ("csv", "png")
}


def clone(commit: str, folder: Path) -> None:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=folder, check=True)


def seconds_of_repro(folder: Path) -> float:
    """How long `dvc repro` takes there. Raises UserError with its last lines when it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"dvc repro in {folder} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return time.perf_counter() - start


def forget_results(folder: Path) -> None:
    """Everything that a run leaves, so that the next one starts from nothing."""
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
    """A row for each file of the base: its place now, and whether it holds the same."""
    before, after = files_below(base), files_below(now)
    rows = []
    for path, sha256 in sorted(before.items()):
        place = RENAMED.get(path, path.replace("data/evaluate/", "data/evaluate_cnn/"))
        if after.get(place) == sha256:
            rows.append([path, place, "same bytes"])
        else:
            rows.append([path, place, what_differs(path, base, now)])
    return rows


def what_differs(path: str, base: Path, now: Path) -> str:
    """Of a file that is not the same: whether it holds all that it held."""
    if path == "data/evaluate/metrics.json":
        figures = json.loads((base / path).read_text())
        new: dict[str, Any] = {}
        for network in figures:
            new |= json.loads((now / f"data/evaluate_{network}/metrics.json").read_text())
        return "same figures, in two files" if new == figures else "DIFFERENT"
    if path == "data/evaluate/predictions.csv":
        old, new_rows = (
            list(csv.DictReader((folder / place).open(encoding="utf-8", newline="")))
            for folder, place in ((base, path), (now, "data/evaluate_cnn/predictions.csv"))
        )
        kept = [{name: row[name] for name in old[0]} for row in new_rows]
        return "same rows, more columns" if kept == old else "DIFFERENT"
    if path == "data/evaluate/report.md":
        figures_of = set(_numbers((base / path).read_text(encoding="utf-8")))
        pages = "".join((now / f"data/evaluate_{n}/report.md").read_text(encoding="utf-8") for n in ("cnn", "gan"))
        return "same figures, in two pages" if figures_of <= set(_numbers(pages)) else "DIFFERENT"
    return "DIFFERENT"


def _numbers(text: str) -> Iterable[str]:
    cells = (cell.strip() for line in text.splitlines() if line.startswith("|") for cell in line.split("|"))
    return (cell for cell in cells if cell[:1].isdigit())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.layout", description=__doc__)
    parser.add_argument("--base", default=BASE, help="the commit to compare with; default: %(default)s")
    parser.add_argument("--commit", default="HEAD", help="the other one; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turn; default: %(default)s")
    given = parser.parse_args()
    times: dict[str, Any] = {"base": [], "now": [], "base_nothing": [], "now_nothing": []}
    with tempfile.TemporaryDirectory(prefix="layout-") as name:
        folders = {"base": Path(name) / "base", "now": Path(name) / "now"}
        clone(given.base, folders["base"])
        clone(given.commit, folders["now"])
        for _ in range(given.repeats):
            for side, folder in folders.items():
                forget_results(folder)
                times[side].append(seconds_of_repro(folder))
                times[f"{side}_nothing"].append(seconds_of_repro(folder))
                say(f"{side}: {times[side][-1]:.1f} s, with nothing to do {times[f'{side}_nothing'][-1]:.1f} s")
        rows = compare(folders["base"], folders["now"])
    print(tabulate(rows, headers=[f"at {given.base}", "now", "holds"]))
    medians = {side: statistics.median(values) for side, values in times.items()}
    print(
        f"\ndvc repro, median of {given.repeats}: {medians['base']:.1f} s before, {medians['now']:.1f} s now, ratio "
        f"{medians['now'] / medians['base']:.2f}; with nothing to do {medians['base_nothing']:.1f} and "
        f"{medians['now_nothing']:.1f} s"
    )
    RESULTS.mkdir(exist_ok=True)
    record = {"machine": machine(), "base": given.base, "seconds": times, "files": rows}
    (RESULTS / "layout.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if different := [row[0] for row in rows if row[2] == "DIFFERENT"]:
        raise UserError(f"{len(different)} of {len(rows)} files differ: {', '.join(different[:10])}")
    say(f"all {len(rows)} files hold what they held")


if __name__ == "__main__":
    run_stage(main)
