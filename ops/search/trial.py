"""One trial of a search: a DVC experiment in a temporary copy, as a process to start, watch and stop.

Reads the events that its stages write to .visionloop/outbox (stages/running/tracking/record.py) while they train.
"""

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
GRACE_SECONDS = 90.0  # for a stage to end its step and DVC to remove the copy, before both are killed
DVC_COPIES = Path(".dvc/tmp/exps/standalone/run")  # DVC's notes about its temporary copies


class TrialFailed(Exception):
    """A stage or DVC failed; the message is theirs."""


def start(
    name: str, params: Mapping[str, Any], targets: Sequence[str], tags: Mapping[str, str], log: Path
) -> subprocess.Popen:
    """Starts `dvc exp run --temp` of the targets in a session of its own, with its output in `log`.

    tags: for its MLflow runs.
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
            start_new_session=True,  # so that Ctrl-C reaches only the search, which stops this process
        )


# ---------------------------------------------------------------- while it runs


class EventLog:
    """The events that a stage writes, read as the file grows."""

    def __init__(self, folder: Path):
        self.folder, self.rest = folder, b""
        self.file = (folder / "events.jsonl").open("rb")  # stays readable when the folder is removed after delivery
        self.tags: dict[str, str] = {}
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.has_ended = False

    def read(self) -> None:
        """Reads the new events."""
        *lines, self.rest = (self.rest + self.file.read()).split(b"\n")
        for event in map(json.loads, lines):
            if event["kind"] == "start":
                self.tags = event["tags"]
            elif event["kind"] == "metrics":
                self.metrics.append((event["step"], event["values"]))
            elif event["kind"] == "end":
                self.has_ended = True

    def remove_checkpoint(self) -> None:
        """Removes the checkpoint of this training, which no one will resume."""
        stage, key = self.tags["stage"], self.tags["resume_key"]
        shutil.rmtree(self.folder.parents[1] / "checkpoints" / f"{stage}-{key}", ignore_errors=True)


def find_events(experiment: str, stage: str) -> EventLog | None:
    """The events of the stage in this DVC experiment; None before they exist and after delivery."""
    for folder in sorted((main_checkout() / ".visionloop" / "outbox").glob(f"*-{stage}-*"), reverse=True):
        with suppress(FileNotFoundError), (folder / "events.jsonl").open(encoding="utf-8") as file:
            start = file.readline()
            if start.endswith("\n") and json.loads(start)["tags"].get("dvc_experiment") == experiment:
                return EventLog(folder)
    return None


class Watch:
    """Iterates over (step, value) of an objective as its stage measures it, until the experiment's process ends."""

    def __init__(self, process: subprocess.Popen, experiment: str, objective: Objective):
        self.process, self.experiment, self.objective = process, experiment, objective
        self.events: EventLog | None = None

    def __iter__(self) -> Iterator[tuple[int, float]]:
        metric, seen = self.objective.name.split(".")[1], 0
        while self.process.poll() is None:
            time.sleep(POLL_SECONDS)
            self.events = self.events or find_events(self.experiment, str(self.objective.stage))
            if self.events:
                self.events.read()
                for step, values in self.events.metrics[seen:]:
                    seen += 1
                    if metric in values:
                        yield step, values[metric]

    def prune(self) -> bool:
        """Stops the experiment for good; False when its stage finished before that."""
        assert self.events
        self.events.read()
        if self.events.has_ended:
            return False
        (self.events.folder / PRUNED).touch()  # the folder exists until its stage has ended
        stop(self.process)
        if self.process.returncode == 0:
            return False
        self.events.remove_checkpoint()
        return True


# ---------------------------------------------------------------- its end


def stop(process: subprocess.Popen) -> None:
    """Stops the experiment as Ctrl-C in its terminal would: the stage saves a checkpoint, DVC removes the copy."""
    _end(process.pid, lambda: process.poll() is not None)


def stop_orphan(experiment: str) -> None:
    """Stops an experiment of this clone whose search was killed."""
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
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(group, number)
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline:
            if has_ended():
                return
            time.sleep(0.1)


def remove_copy(experiment: str) -> None:
    """Removes the temporary copy of an experiment that was killed before DVC could remove it."""
    for note in DVC_COPIES.glob("*/*.run"):
        content = json.loads(note.read_text(encoding="utf-8"))
        if content["name"] == experiment:
            shutil.rmtree(content["root_dir"], ignore_errors=True)
            shutil.rmtree(note.parent)


def failure_message(log: Path) -> str:
    """The stage's error message in a log, or else DVC's, or else the last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for prefix in ("error: ", "interrupted", "ERROR: "):
        for line in reversed(lines):
            if line.startswith(prefix):
                return line.removeprefix(prefix)
    return lines[-1] if lines else "exited without output"


def experiment_ref(commit: str, experiment: str) -> str:
    """The git ref of a DVC experiment on top of a commit."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{experiment}"


def has_experiment(commit: str, experiment: str) -> bool:
    """Whether this clone has the experiment."""
    return bool(git("for-each-ref", experiment_ref(commit, experiment)))


def read_values(
    commit: str, experiment: str, objectives: Sequence[Objective], params: Mapping[str, Any]
) -> list[float]:
    """The values of the objectives of a finished experiment, from its metrics files in git and its params."""
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
