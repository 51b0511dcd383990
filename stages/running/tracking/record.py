"""The record of a stage execution: what becomes an MLflow run, and the networks that become registered models.

A stage never talks to MLflow. It appends events to its own folder in `.visionloop/outbox` of the main checkout, and one
sender process per checkout, started when needed, delivers the outbox to MLflow (delivery.py). So training does not die
when tracking does, undelivered events wait for the next run, MLflow's slow import runs in parallel with the stage and
once for a whole pipeline, and SQLite has a single writer. Files are copied into the outbox, and removed after delivery.

Environment: MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME override the default store (mlflow.db at the root of the
main checkout, also for runs inside `dvc exp run --temp` and `--queue`). VISIONLOOP_TRACKING=later keeps everything in
the outbox for the next run that is online; VISIONLOOP_TRACKING=off tracks nothing. VISIONLOOP_TAGS holds tags for every
run, as JSON: {"study": "wider"}.

Output-neutral: nothing here may change a byte below data/.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Protocol

import psutil
import yaml
from pydantic import BaseModel

from stages.running.checkout import main_checkout
from stages.running.launcher import is_chief
from stages.running.terminal import UserError
from stages.running.tracking.address import check_server, tracking_uri
from stages.running.tracking.delivery import start_sender, wait_for_delivery
from stages.running.tracking.identity import bundle_sha256, sha256_of

SAMPLE_SECONDS = 5.0  # between two samples of the system metrics
PRUNED = "pruned"  # a file that ops.search adds to the record of a stage before it stops the stage


class Resumable(Protocol):
    """Work that can be resumed after it was killed."""

    @property
    def key(self) -> str:
        """Equal for equal work."""


class Run:
    """The record of one stage execution.

    folder: of the record, `.visionloop/outbox/NAME`; None when nothing is recorded. When the record cannot be written,
    the stage prints one warning and continues without it, and `folder` is None from then on.
    """

    def __init__(self, folder: Path | None):
        self.folder, self.files = folder, 0
        self.lock = threading.Lock()
        if folder:
            # Moved into the outbox once it is locked: there, an unlocked record counts as that of a dead stage.
            new = folder.parents[1] / "new" / folder.name
            (new / "files").mkdir(parents=True)
            self.events: IO[str] = (new / "events.jsonl").open("a", encoding="utf-8")
            # Held until this process ends in any way, so that the sender can tell a running stage from a killed one.
            fcntl.flock(self.events, fcntl.LOCK_EX)
            folder.parent.mkdir(exist_ok=True)
            new.rename(folder)

    @property
    def is_recording(self) -> bool:
        """Whether anything is recorded; False when tracking is off, in a process that is not the chief, or after a disk
        error."""
        return self.folder is not None

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Records one number per name; step is the training step or epoch."""
        self.append("metrics", values={name: float(value) for name, value in values.items()}, step=step or 0)

    def tags(self, values: Mapping[str, str]) -> None:
        """Records tags of the run."""
        self.append("tags", values=dict(values))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Records a copy of a file or a folder, under `folder` in the run's artifacts."""
        self.append("artifact", file=self._copy(path), folder=folder)

    def dataset(self, name: str, digest: str, profile: Mapping[str, Any]) -> None:
        """Records the data set that the stage reads or writes."""
        self.append("dataset", name=name, digest=digest, profile=dict(profile))
        self.tags({"data_hash": digest})

    def model(self, path: Path) -> None:
        """Records that this run trained the network at `path`, so that a registered version can be linked to it."""
        self.tags({"model_sha256": sha256_of(path)})

    def register(
        self,
        name: str,
        *,
        network: Path,
        serve: Path,
        files: Sequence[Path],
        signature: Mapping[str, Any],
        example: Any,
        description: str,
        tags: Mapping[str, str],
        requirements: Sequence[str],
    ) -> None:
        """Registers `network` as a version of `name` with the alias `candidate`. When the same bytes (network and
        `files`) are registered already, that version gets the alias, the description and the figures.

        serve: the Python file that predicts, a "model from code". files: the data files that it reads in addition to
        the network. signature: inputs and outputs in MLflow's terms. example: a JSON-able input.
        """
        sha256s = [sha256_of(path) for path in (network, *files)]
        self.append(
            "register",
            name=name,
            sha256=sha256s[0],
            # For the sender of an older commit: an experiment of that commit may have started the active one.
            bundle_sha256=bundle_sha256(sha256s, sha256_of(serve)),
            serve=self._copy(serve),
            files={Path(path).name: self._copy(path) for path in (network, *files)},
            signature=signature,
            example=example,
            description=description,
            tags={
                **tags,
                "git_commit": _git_commit(),
                "dvc_experiment": os.environ.get("DVC_EXP_NAME", ""),
                "data_hash": _validated_data(),
            },
            requirements=list(requirements),
        )

    def end(self, status: str) -> None:
        """Records the end: FINISHED, FAILED or KILLED."""
        self.append("end", status=status)

    def _copy(self, path: Path) -> str:
        if not self.folder:
            return ""
        self.files += 1
        copy = self.folder / "files" / str(self.files) / Path(path).name
        with self.recording_stops_on_disk_errors():
            copy.parent.mkdir()
            if Path(path).is_dir():
                shutil.copytree(path, copy)
            else:
                shutil.copyfile(path, copy)
        return copy.relative_to(copy.parents[2]).as_posix()

    def append(self, kind: str, **event: Any) -> None:
        """Appends one event to the record, as delivery.py reads it: a line of JSON with its kind and the time in ms."""
        with self.lock, self.recording_stops_on_disk_errors():
            if self.folder:
                self.events.write(json.dumps({"kind": kind, "time": int(time.time() * 1000), **event}) + "\n")
                self.events.flush()

    @contextmanager
    def recording_stops_on_disk_errors(self) -> Iterator[None]:
        """An OSError in the block stops the recording, with one warning, but not the stage."""
        try:
            yield
        except OSError as error:
            self.folder = None
            print(f"  tracking: stopped recording this run ({error})", file=sys.stderr, flush=True)


@contextmanager
def stage_run(stage: str, params: BaseModel, resumable: Resumable | None = None) -> Iterator[Run]:
    """Yields the run of one stage execution: named, tagged, FAILED when the block raises, KILLED when the process is.

    resumable: identifies the work, so that an execution that resumes a killed one continues its run.

    Raises UserError within 5 seconds when MLFLOW_TRACKING_URI cannot be reached.
    """
    mode = os.environ.get("VISIONLOOP_TRACKING", "on")
    if mode not in ("on", "later", "off"):
        raise UserError(f"VISIONLOOP_TRACKING is {mode!r}, expected on, later or off")
    tags = _tags_from_environment()
    if mode == "off" or not is_chief():
        yield Run(None)
        return
    root = main_checkout()
    uri = tracking_uri(root)
    if mode == "on":
        check_server(uri)
    folder = root / ".visionloop" / "outbox" / f"{time.time_ns()}-{stage}-{uuid.uuid4().hex[:8]}"
    run = Run(folder)
    run.append("start", **_start_event(stage, params, resumable, root, uri))
    if tags:  # a separate event: a resumed run gets them, too
        run.tags(tags)
    if stage not in ("ingest", "validate"):  # these two record their data set themselves
        _record_validated_data(run)
    if mode == "on":
        with run.recording_stops_on_disk_errors():
            start_sender(root)
    try:
        with _system_metrics(run):
            yield run
    except BaseException as error:
        if (folder / PRUNED).exists():
            run.tags({"pruned": "true", "resume_key": ""})  # it is never resumed
        else:
            run.tags({"error": str(error)[:5000]})
        run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    else:
        run.end("FINISHED")
    finally:
        with contextlib.suppress(OSError):  # a full disk was reported before
            run.events.close()
        if mode == "on":
            with run.recording_stops_on_disk_errors():
                wait_for_delivery(root, folder)


def _start_event(stage: str, params: BaseModel, resumable: Resumable | None, root: Path, uri: str) -> dict[str, Any]:
    """The first event of a record: the destination of the run, its name, params and tags."""
    experiment, commit = os.environ.get("DVC_EXP_NAME", ""), _git_commit()
    return {
        "uri": uri,
        "experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME") or "visionloop",
        # MLflow's default is ./mlruns, where the next MLflow would look for a file store.
        "artifacts": (root / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None,
        "name": f"{stage} {experiment or commit[:7]}".strip(),
        "params": {f"{stage_section(stage)}.{key}": str(value) for key, value in params.model_dump().items()},
        "tags": {
            "stage": stage,
            "git_commit": commit,
            "mlflow.source.git.commit": commit,
            "mlflow.source.name": f"stages/{stage}.py",
            "dvc_experiment": experiment,
            "pipeline_execution": pipeline_execution(),
            "resume_key": resumable.key if resumable else "",
        },
    }


def _tags_from_environment() -> dict[str, str]:
    text = os.environ.get("VISIONLOOP_TAGS") or "{}"
    try:
        tags = json.loads(text)
    except ValueError:
        tags = None
    if not isinstance(tags, dict):
        raise UserError(f'VISIONLOOP_TAGS is {text!r}, expected JSON such as {{"study": "wider"}}')
    return {key: str(value) for key, value in tags.items()}


def pinned(packages: Sequence[str]) -> list[str]:
    """Requirements with the versions installed here, for a registered model."""
    return [f"{package}=={version(package)}" for package in packages]


def stage_section(stage: str) -> str:
    """The section of params.yaml that a stage reads: `gan` for train_gan."""
    return stage.removeprefix("train_")


def pipeline_execution() -> str:
    """One id for all stages of one `dvc repro` or `dvc exp run`: a hash of the DVC process among our ancestors."""
    if os.environ.get("VISIONLOOP_PIPELINE_EXECUTION"):
        return os.environ["VISIONLOOP_PIPELINE_EXECUTION"]
    for process in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):
            if any(Path(word).name in ("dvc", "dvc.exe") for word in process.cmdline()[:3]):
                key = f"{socket.gethostname()} {process.pid} {process.create_time()}"
                return hashlib.sha256(key.encode()).hexdigest()[:12]
    return uuid.uuid4().hex[:12]


def source_name() -> str:
    """The entry of data/raw that the data set comes from."""
    return str((yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8")).get("ingest") or {}).get("source"))


def _record_validated_data(run: Run) -> None:
    if data_hash := _validated_data():
        run.dataset(source_name(), data_hash, {})


def _validated_data() -> str:
    """The digest of the data set; empty before the validate stage wrote it, on which not every stage depends."""
    passed = Path("data/validate/passed")
    return passed.read_text(encoding="utf-8").strip() if passed.exists() else ""


def _git_commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


@contextmanager
def _system_metrics(run: Run) -> Iterator[None]:
    """Samples the machine every few seconds, and once at the end, so that a short stage has samples, too."""
    ended, process = threading.Event(), psutil.Process()
    psutil.cpu_percent()

    def sample() -> None:
        memory, megabyte = psutil.virtual_memory(), 2**20
        run.metrics(
            {
                "system/cpu_utilization_percentage": psutil.cpu_percent(),
                "system/system_memory_usage_megabytes": memory.used / megabyte,
                "system/system_memory_usage_percentage": memory.percent,
                "system/process_memory_megabytes": process.memory_info().rss / megabyte,
                "system/disk_available_megabytes": shutil.disk_usage(".").free / megabyte,
            },
            step=int(time.time() - process.create_time()),
        )

    def loop() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            sample()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        sample()
