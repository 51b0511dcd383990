"""One trial of a search: a DVC experiment in a throw-away copy, as a process that is watched, stopped, and cleared up
after. Reads what its stages record in .visionloop/outbox (stages/running/tracking/record.py) while they train."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from ops.project.pipeline import git
from ops.search.objectives import Objective
from stages.running.checkout import main_checkout
from stages.running.terminal import UserError
from stages.running.tracking.record import PRUNED

POLL_SECONDS = 0.2
GRACE_SECONDS = 90.0  # for a stage to end its step, and DVC to remove the copy; then they are killed
DVC_COPIES = Path(".dvc/tmp/exps/standalone/run")  # where DVC notes the throw-away copies that it makes


class TrialFailed(Exception):
    """A stage, or DVC, ended with an error; the message is what it said."""


def start(
    name: str, params: Mapping[str, Any], targets: Sequence[str], tags: Mapping[str, str], log: Path
) -> subprocess.Popen:
    """Starts `dvc exp run --temp` of the targets, in a session of its own; all that it says goes to `log`.

    tags: of its MLflow runs.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "exp", "run", "--temp", "--name", name]
    command += [word for key, value in params.items() for word in ("--set-param", f"{key}={value}")]
    environment = os.environ | {
        "VISIONLOOP_TAGS": json.dumps(dict(tags)),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",  # the stages' Python
    }
    with log.open("wb") as file:
        return subprocess.Popen(
            [*command, *targets],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the search, which stops it
        )


# ---------------------------------------------------------------- while it runs


class Record:
    """What a stage records, read as it grows."""

    def __init__(self, folder: Path):
        self.folder, self.rest = folder, b""
        self.file = (folder / "events.jsonl").open("rb")  # once delivered the folder goes, and this stays readable
        self.tags: dict[str, str] = {}
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.has_ended = False

    def read(self) -> None:
        """Takes up what is new."""
        *lines, self.rest = (self.rest + self.file.read()).split(b"\n")
        for event in map(json.loads, lines):
            if event["kind"] == "start":
                self.tags = event["tags"]
            elif event["kind"] == "metrics":
                self.metrics.append((event["step"], event["values"]))
            elif event["kind"] == "end":
                self.has_ended = True

    def remove_checkpoint(self) -> None:
        """Removes the checkpoint of this training, when nobody will take it up."""
        stage, key = self.tags["stage"], self.tags["resume_key"]
        shutil.rmtree(self.folder.parents[1] / "checkpoints" / f"{stage}-{key}", ignore_errors=True)


def find_record(experiment: str, stage: str) -> Record | None:
    """The record of the stage in this DVC experiment, once it has one."""
    for folder in sorted((main_checkout() / ".visionloop" / "outbox").glob(f"*-{stage}-*"), reverse=True):
        with suppress(FileNotFoundError), (folder / "events.jsonl").open(encoding="utf-8") as file:  # or delivered
            start = file.readline()
            if start.endswith("\n") and json.loads(start)["tags"].get("dvc_experiment") == experiment:
                return Record(folder)
    return None


class Watch:
    """Iterates over (step, value) of an objective as its stage measures it, until the experiment's process ends."""

    def __init__(self, process: subprocess.Popen, experiment: str, objective: Objective):
        self.process, self.experiment, self.objective = process, experiment, objective
        self.record: Record | None = None

    def __iter__(self) -> Iterator[tuple[int, float]]:
        metric, seen = self.objective.name.split(".")[1], 0
        while self.process.poll() is None:
            time.sleep(POLL_SECONDS)
            self.record = self.record or find_record(self.experiment, str(self.objective.stage))
            if self.record:
                self.record.read()
                for step, values in self.record.metrics[seen:]:
                    seen += 1
                    if metric in values:
                        yield step, values[metric]

    def prune(self) -> bool:
        """Stops the experiment for good. False when its stage was faster: then it is complete."""
        assert self.record
        self.record.read()
        if self.record.has_ended:
            return False
        (self.record.folder / PRUNED).touch()  # a stage that has not ended keeps its record
        stop(self.process)
        if self.process.returncode == 0:
            return False
        self.record.remove_checkpoint()
        return True


# ---------------------------------------------------------------- its end


def stop(process: subprocess.Popen) -> None:
    """Ends the experiment as Ctrl-C in its terminal would: the stage saves a checkpoint, DVC removes the copy."""
    _end(process.pid, lambda: process.poll() is not None)


def stop_orphan(experiment: str) -> None:
    """Ends an experiment of this clone whose search was killed."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if "--temp" in words and experiment in words and process.info["cwd"] == str(Path.cwd()):
            _end(process.pid, partial(_is_gone, process))


def _is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _end(group: int, has_ended: Callable[[], bool]) -> None:
    for how in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(group, how)
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            if has_ended():
                return
            time.sleep(0.1)


def clear_up(experiment: str) -> None:
    """Removes the throw-away copy of an experiment that was killed before DVC could."""
    for note in DVC_COPIES.glob("*/*.run"):
        about = json.loads(note.read_text(encoding="utf-8"))
        if about["name"] == experiment:
            shutil.rmtree(about["root_dir"], ignore_errors=True)
            shutil.rmtree(note.parent)


def complaint(log: Path) -> str:
    """What the stage said when it failed, or else DVC, or else the last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for beginning in ("error: ", "interrupted", "ERROR: "):
        for line in reversed(lines):
            if line.startswith(beginning):
                return line.removeprefix(beginning)
    return lines[-1] if lines else "exited without output"


def experiment_ref(commit: str, experiment: str) -> str:
    """Where git keeps a DVC experiment on top of a commit."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{experiment}"


def is_here(commit: str, experiment: str) -> bool:
    """Whether this clone has the experiment."""
    return bool(git("for-each-ref", experiment_ref(commit, experiment)))


def read_values(
    commit: str, experiment: str, objectives: Sequence[Objective], params: Mapping[str, Any]
) -> list[float]:
    """The objectives of a finished experiment, from its metrics files in git and its params."""
    values = []
    for objective in objectives:
        section, name = objective.name.split(".")
        if not objective.stage:
            values.append(float(params[objective.name]))
            continue
        path = f"data/{objective.stage}/metrics.json"
        metrics = json.loads(git("show", f"{experiment_ref(commit, experiment)}:{path}"))
        if name not in metrics[section]:
            raise UserError(f"{path} of the experiment {experiment} has no {objective.name}")
        values.append(float(metrics[section][name]))
    return values
