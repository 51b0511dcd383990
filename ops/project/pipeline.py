"""What DVC and the environment say about the pipeline's state, for the programs around it."""

import os
import subprocess
import sys
from pathlib import Path

import yaml
from dvc.repo import Repo

from ops.project import credentials
from stages.running.checkout import main_checkout
from stages.running.terminal import UserError
from stages.running.tracking.address import tracking_uri


def stale_stages() -> list[str]:
    """The stages that code, params or data have moved away from dvc.lock; empty when there is nothing to run.

    Data that is not here counts as what dvc.lock and the `.dvc` files say of it, so nothing has to be pulled. Stages
    that only depend on a stale one are not listed: whether they run depends on what comes out of it.
    """
    with Repo() as repo, repo.lock:
        graph = repo.index.graph  # from a stage to those whose outputs it reads
        stages = {stage.name: stage for stage in graph if stage.is_data_source is False}
        order = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
        return [name for name in order if stages[name].changed(True, list(graph.successors(stages[name])))]


def dvc(*arguments: str) -> str:
    """What a DVC command printed. Raises UserError with what it complained of when it fails."""
    if arguments[0] in ("pull", "push", "fetch", "update"):
        credentials.refresh()
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"`dvc {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def update_imports(download: bool) -> None:
    """Takes up the newest state of data that `dvc import` or `dvc import-url` brought to data/raw."""
    pointers = sorted(Path("data/raw").glob("*.dvc"))
    imported = [str(path) for path in pointers if "deps" in yaml.safe_load(path.read_text(encoding="utf-8"))]
    if imported:
        dvc("update", *imported, *([] if download else ["--no-download"]))


def git(*arguments: str) -> str:
    """What a git command printed, without the last line break. Raises UserError when it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"`git {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")


def locked_md5(path: str | Path, lock: str | Path = "dvc.lock") -> str:
    """The md5 that dvc.lock names for an output, ending in `.dir` for a folder. Raises UserError when it names none."""
    if not Path(lock).exists():
        raise UserError(f"{lock} not found: run `dvc repro`")
    stages = yaml.safe_load(Path(lock).read_text(encoding="utf-8"))["stages"].values()
    for output in (output for stage in stages for output in stage.get("outs", [])):
        if output["path"] == Path(path).as_posix():
            return output["md5"]
    raise UserError(f"{lock} names no {path}: run `dvc repro`, which makes it")


def check_remote() -> None:
    """Raises UserError when DVC has no remote to fetch from and push to."""
    with Repo() as repo:
        if not repo.config["core"].get("remote"):
            raise UserError(
                "DVC has no default remote: `uv run dvc remote add -d storage s3://bucket/path`, and commit"
            )


def check_shared_store() -> None:
    """Raises UserError in CI when MLflow's store is a local one: it ends with the machine, so every model would be the
    first one there."""
    if os.environ.get("CI", "").lower() in ("true", "1") and tracking_uri(main_checkout()).startswith("sqlite:"):
        found = os.environ.get("MLFLOW_TRACKING_URI") or "not set"
        raise UserError(
            f"MLFLOW_TRACKING_URI is {found}, and in CI a local store is lost with the machine: "
            "set it to the address of an MLflow server (docs/ci.md says how)"
        )
