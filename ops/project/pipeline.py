"""The pipeline's state, read from DVC, git and the environment, and commands of DVC and git."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from ops.project import credentials
from stages.running.checkout import main_checkout
from stages.running.terminal import UserError
from stages.running.tracking.address import tracking_uri


def stale_stages() -> list[str]:
    """The stages whose code, params or data differ from dvc.lock; empty when there is nothing to run.

    Data that is missing here counts as dvc.lock and the `.dvc` files record it, so nothing has to be pulled. Stages
    that only depend on a stale one are not listed: whether they run depends on its results.
    """
    from dvc.repo import Repo

    with Repo() as repo, repo.lock:
        graph = repo.index.graph  # edges lead from a stage to the stages whose outputs it reads
        stages = {stage.name: stage for stage in graph if stage.is_data_source is False}
        order = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
        return [name for name in order if stages[name].changed(True, list(graph.successors(stages[name])))]


def dvc(*arguments: str) -> str:
    """Runs a DVC command; returns its standard output. Raises UserError with its error output when it fails."""
    if arguments[0] in ("pull", "push", "fetch", "update"):
        credentials.refresh()
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"`dvc {' '.join(arguments)}` failed with exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def update_imports(download: bool) -> None:
    """Updates the data that `dvc import` or `dvc import-url` brought to data/raw to its newest state."""
    pointers = sorted(Path("data/raw").glob("*.dvc"))
    imported = [str(path) for path in pointers if "deps" in yaml.safe_load(path.read_text(encoding="utf-8"))]
    if imported:
        dvc("update", *imported, *([] if download else ["--no-download"]))


def git(*arguments: str) -> str:
    """Runs a git command; returns its standard output without the last line break. Raises UserError when it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"`git {' '.join(arguments)}` failed with exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")


def locked_md5(path: str | Path, lock: str | Path = "dvc.lock") -> str:
    """The md5 of an output in dvc.lock, ending in `.dir` for a folder. Raises UserError when dvc.lock has none."""
    if not Path(lock).exists():
        raise UserError(f"{lock} not found: run `dvc repro`")
    stages = yaml.safe_load(Path(lock).read_text(encoding="utf-8"))["stages"].values()
    for output in (output for stage in stages for output in stage.get("outs", [])):
        if output["path"] == Path(path).as_posix():
            return output["md5"]
    raise UserError(f"{lock} has no output {path}: run `dvc repro`, which makes it")


def check_remote() -> None:
    """Raises UserError when DVC has no remote to fetch from and push to."""
    from dvc.repo import Repo

    with Repo() as repo:
        if not repo.config["core"].get("remote"):
            raise UserError(
                "DVC has no default remote: run `uv run dvc remote add -d storage s3://bucket/path`, and commit"
            )


def check_shared_store() -> None:
    """Raises UserError in CI when MLflow's store is local: it is lost with the machine, so that every run would start
    with an empty registry."""
    if os.environ.get("CI", "").lower() in ("true", "1") and tracking_uri(main_checkout()).startswith("sqlite:"):
        found = os.environ.get("MLFLOW_TRACKING_URI") or "not set"
        raise UserError(
            f"MLFLOW_TRACKING_URI is {found}, and in CI a local store is lost with the machine: "
            "set it to the address of an MLflow server (see docs/ci.md)"
        )
