"""Functions that the comparisons share."""

import multiprocessing
import platform
import shutil
import statistics
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"


def in_new_process(function: Callable, *arguments) -> Any:
    """Calls a function in a new process, so that no training is affected by another's settings, memory or graphs."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def copy_pipeline(project: Path) -> None:
    """Copies the files that a stage reads in addition to params and data: checkpoints are named by the code."""
    shutil.copytree(ROOT / "stages", project / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "versions.yaml"):
        shutil.copy(ROOT / name, project / name)


def summary(values: Sequence[float], seeds: Sequence[int]) -> dict[str, Any]:
    """Mean, range and values by seed, as the results files hold them."""
    by_seed = {str(seed): value for seed, value in zip(seeds, values, strict=True)}
    return {"mean": statistics.mean(values), "range": [min(values), max(values)], "seeds": by_seed}


def machine() -> dict[str, str]:
    """Processor, package versions and commit of a measurement."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    packages = {name: version(name) for name in ("tensorflow", "keras", "numpy")}
    return {
        "processor": f"{len(cpu)} x {cpu[0].partition(': ')[2]}",
        "python": platform.python_version(),
        **packages,
        "commit": commit.stdout.strip(),
    }
