"""Runs the stages whose code, params or data differ from dvc.lock, as CI does: `visionloop retrain`.

Unlike `dvc repro` it starts with nothing pulled and fetches only what the stale stages need. It pushes each stage's
results and the run-cache as soon as the stage is done, and checkpoints every few minutes, so that the next run resumes
from there when a machine is lost. When nothing is stale it exits at once.

  --plan             only list the stale stages
  --set KEY=VALUE    change params first, as `dvc exp run -S` does; several, separated by spaces
  --update           update imported data first (`dvc update`)

Environment: VISIONLOOP_PUSH_SECONDS, between two pushes of checkpoints (300). In GitHub Actions the outputs are
`stages` (the stale ones), `ran` (whether any stage was stale), `failed` (the stage that failed).
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import yaml

from ops.ci.github import is_bot_commit, set_output
from ops.project import credentials
from ops.project.networks import NETWORKS
from ops.project.pipeline import check_remote, check_shared_store, dvc, stale_stages, update_imports
from stages.running.terminal import UserError, run_stage, say

LOG, PASSED = Path(".visionloop/retrain.log"), Path("data/validate/passed")
TRAINING = ("reference", *(network.train_stage for network in NETWORKS.values()))  # the stages that write checkpoints
PUSH_SECONDS = 300.0


def set_params(assignments: list[str]) -> None:
    """Changes params.yaml as `dvc exp run -S` does. Raises UserError for a key that params.yaml does not have."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    for assignment in assignments:
        key, equals, _ = assignment.partition("=")
        known = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
        section, _, name = key.partition(".")
        if not equals or name not in (known.get(section) or {}):
            raise UserError(f"{assignment!r} does not change a key of params.yaml: write for example gan.lr=2e-4")
    try:
        apply_overrides("params.yaml", assignments)
    except DvcException as error:
        raise UserError(f"{' '.join(assignments)}: {error.__cause__ or error}") from None


def reproduce(stage: str) -> bool:
    """Runs `dvc repro` up to a stage, copies its output to the log and returns whether it succeeded."""
    credentials.refresh()
    command = [sys.executable, "-m", "dvc", "repro", "--pull", "--allow-missing", stage]
    with LOG.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            log.write(line)
        return process.wait() == 0


def push(stage: str) -> None:
    """Pushes a stage's outputs and the run-cache, so that another machine need not run it.

    `dvc push` leaves out the metrics, which git keeps. But the run-cache restores a stage only with all its outputs,
    and the commit with the metrics may never be made, so they are pushed as well.
    """
    from dvc.repo import Repo

    dvc("push", "--run-cache", stage)
    with Repo() as repo:
        [definition] = [found for found in repo.index.stages if found.addressing == stage]
        repo.cloud.push([output.hash_info for output in definition.outs if not output.use_cache])


def retrain() -> str:
    """Reproduces every stage in turn and pushes its results; returns the stage that failed, or an empty string."""
    from ops.remote.checkpoints import RemoteCheckpoints, pushed_every

    seconds = float(os.environ.get("VISIONLOOP_PUSH_SECONDS", PUSH_SECONDS))
    LOG.parent.mkdir(exist_ok=True)
    LOG.unlink(missing_ok=True)
    lock = Path("dvc.lock")
    for stage in yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]:
        before = lock.read_bytes() if lock.exists() else b""
        if stage in TRAINING:
            checkpoints = RemoteCheckpoints(stage)
            if checkpoints.pull():
                say(f"{stage}: fetched a checkpoint from the remote")
            with pushed_every(seconds, checkpoints):
                succeeded = reproduce(stage)
        else:
            succeeded = reproduce(stage)
        if not succeeded:
            return stage
        if stage == "validate" and not PASSED.exists():  # later stages record its hash in MLflow
            dvc("pull", str(PASSED))
        if lock.read_bytes() != before:
            push(stage)
        if stage in TRAINING:
            checkpoints.remove_finished()
    return ""


def main() -> None:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="visionloop retrain",
        description=f"{summary}\n\n{rest}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--plan", action="store_true", help="only list the stale stages")
    parser.add_argument("--set", default="", metavar="'KEY=VALUE ...'", help="change params first")
    parser.add_argument("--update", action="store_true", help="update imported data first")
    arguments = parser.parse_args()
    if not arguments.plan:
        check_shared_store()
        check_remote()
    if arguments.set.split():
        set_params(arguments.set.split())
    if arguments.update:
        update_imports(download=not arguments.plan)
    stages = stale_stages()
    if is_bot_commit():  # even when it looks stale: retraining its result would never end
        say("HEAD is the commit of a retraining: not trained again")
        stages = []
    set_output("stages", " ".join(stages))
    set_output("ran", "true" if stages and not arguments.plan else "false")
    if not stages:
        say("nothing to run: dvc.lock agrees with code, params and data")
        return
    say(f"stale: {', '.join(stages)}, and the stages that depend on them")
    if arguments.plan:
        return
    failed = retrain()
    set_output("failed", failed)
    if failed:
        raise UserError(f"{failed} failed: its output is above and in {LOG}")


if __name__ == "__main__":
    run_stage(main)
