"""Tracking: every stage execution becomes an MLflow run, and the networks become registered models.

A stage never talks to MLflow. It appends what happened to a folder of its own in `.visionloop/outbox`, and one sender
process per checkout, started when needed, delivers the outbox to MLflow. So training does not die when tracking does,
what cannot be delivered waits for the next run, MLflow's slow import runs beside the stage and once for a whole
pipeline, and SQLite has a single writer. Files are copied into the outbox, and removed when they are delivered.

Environment: MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME win over the default store (mlflow.db at the root of the
main checkout, also for runs inside `dvc exp run --temp` and `--queue`). VISIONLOOP_TRACKING=later keeps everything in
the outbox for the next run that is online; VISIONLOOP_TRACKING=off tracks nothing. VISIONLOOP_TAGS holds tags for every
run, as JSON: {"study": "wider"}.

Output-neutral: nothing here may change a byte below data/.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

import psutil
import yaml

from stages.lib.checkout import main_checkout
from stages.lib.launcher import is_chief
from stages.lib.params import Params
from stages.lib.terminal import UserError

PROBE_SECONDS = 3.0
WAIT_SECONDS = 120.0  # for the delivery at the end of a stage; what is late is delivered all the same
STALL_SECONDS = 10.0  # a delivery that gets no further is not waited for any longer than this
FIRST_CONTACT_SECONDS = 30.0  # likewise, for the first event: MLflow's import and the making of a store take a while
IDLE_SECONDS = 10.0  # after which the sender ends: longer than the pause between two stages
RETRY_SECONDS = 5.0
RETRIES = 3  # after the end of a stage; then the next run delivers it
HAND_OVER_SECONDS = 15.0  # for which a new sender waits for the one at work to give up
SAMPLE_SECONDS = 5.0  # between two samples of the system metrics
PRUNED = "pruned"  # a file that ops.search puts into the record of a stage before it stops it


# ---------------------------------------------------------------- the stage's side


class Resumable(Protocol):
    """Work that can be taken up again."""

    @property
    def key(self) -> str:
        """Equal for equal work."""


class Run:
    """The record of one stage execution; with `folder` None it records nothing.

    When the disk does not take the record, the stage goes on without it, after one warning.
    """

    def __init__(self, folder: Path | None):
        self.folder, self.files = folder, 0
        self.lock = threading.Lock()
        if folder:
            # Moved into the outbox once it is locked: there, the sender takes an unlocked one for that of a dead stage.
            new = folder.parents[1] / "new" / folder.name
            (new / "files").mkdir(parents=True)
            self.events: IO[str] = (new / "events.jsonl").open("a", encoding="utf-8")
            # Held until this process ends, however it ends: so the sender knows a running stage from a killed one.
            fcntl.flock(self.events, fcntl.LOCK_EX)
            folder.parent.mkdir(exist_ok=True)
            new.rename(folder)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Records one number per name; step is the training step or epoch."""
        self._append("metrics", values={name: float(value) for name, value in values.items()}, step=step or 0)

    def tags(self, values: Mapping[str, str]) -> None:
        """Records tags of the run."""
        self._append("tags", values=dict(values))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Records a copy of a file or a folder, under `folder` in the run's artifacts."""
        self._append("artifact", file=self._copy(path), folder=folder)

    def dataset(self, name: str, digest: str, profile: Mapping[str, Any]) -> None:
        """Records the data set that the stage reads or makes."""
        self._append("dataset", name=name, digest=digest, profile=dict(profile))
        self.tags({"data_hash": digest})

    def model(self, path: Path) -> None:
        """Records that this run made the network at `path`, so that a registered version can be linked to it."""
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
        """Registers `network` as a version of `name` with the alias `candidate`. When the same bytes (network, `serve`
        and `files`) are registered already, that version gets the alias, the description and the figures.

        serve: the Python file that answers predictions, a "model from code". files: what it reads beside the network.
        signature: inputs and outputs in MLflow's terms. example: a JSON-able input.
        """
        self._append(
            "register",
            name=name,
            sha256=sha256_of(network),
            bundle_sha256=hashlib.sha256("".join(map(sha256_of, (network, serve, *files))).encode()).hexdigest(),
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
        self._append("end", status=status)

    def _copy(self, path: Path) -> str:
        if not self.folder:
            return ""
        self.files += 1
        copy = self.folder / "files" / str(self.files) / Path(path).name
        with self._or_without_record():
            copy.parent.mkdir()
            if Path(path).is_dir():
                shutil.copytree(path, copy)
            else:
                shutil.copyfile(path, copy)
        return copy.relative_to(copy.parents[2]).as_posix()

    def _append(self, kind: str, **event: Any) -> None:
        with self.lock, self._or_without_record():
            if self.folder:
                self.events.write(json.dumps({"kind": kind, "time": int(time.time() * 1000), **event}) + "\n")
                self.events.flush()

    @contextmanager
    def _or_without_record(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.folder = None
            print(f"  tracking: this run is recorded no further ({error})", file=sys.stderr, flush=True)


@contextmanager
def stage_run(stage: str, params: Params, resumable: Resumable | None = None) -> Iterator[Run]:
    """The run of one stage execution: named, tagged, FAILED when the block raises, KILLED when the process is killed.

    resumable: names the work, so that an execution that takes up a killed one goes on in its run.

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
    default_store = f"sqlite:///{root / 'mlflow.db'}"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or default_store
    if mode == "on":
        _probe(uri)
    folder = root / ".visionloop" / "outbox" / f"{time.time_ns()}-{stage}-{uuid.uuid4().hex[:8]}"
    run = Run(folder)
    experiment = os.environ.get("DVC_EXP_NAME", "")
    commit = _git_commit()
    run._append(
        "start",
        uri=uri,
        experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME") or "visionloop",
        # MLflow's own default is ./mlruns, which would make the next MLflow look for a file store there.
        artifacts=(root / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None,
        name=f"{stage} {experiment or commit[:7]}".strip(),
        params={f"{stage_section(stage)}.{key}": str(value) for key, value in params.model_dump().items()},
        tags={
            "stage": stage,
            "git_commit": commit,
            "mlflow.source.git.commit": commit,
            "mlflow.source.name": f"stages/{stage}.py",
            "dvc_experiment": experiment,
            "pipeline_execution": pipeline_execution(),
            "resume_key": resumable.key if resumable else "",
        },
    )
    if tags:  # by themselves: a run that is taken up again gets them, too
        run.tags(tags)
    if stage not in ("ingest", "validate"):  # these two say themselves what they made and read
        _record_validated_data(run)
    if mode == "on":
        with run._or_without_record():
            start_sender(root)
    try:
        with _system_metrics(run):
            yield run
    except BaseException as error:
        if (folder / PRUNED).exists():
            run.tags({"pruned": "true", "resume_key": ""})  # it never goes on
        else:
            run.tags({"error": str(error)[:5000]})
        run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    else:
        run.end("FINISHED")
    finally:
        with contextlib.suppress(OSError):  # a full disk has been told of
            run.events.close()
        if mode == "on":
            with run._or_without_record():
                _wait_for_delivery(root, folder)


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
    """One id for all the stages that one `dvc repro` or `dvc exp run` executes: made of the DVC process above us."""
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
    """The hash of the data set; empty when validate's word on it is not here, which not every stage depends on."""
    passed = Path("data/validate/passed")
    return passed.read_text(encoding="utf-8").strip() if passed.exists() else ""


@contextmanager
def _system_metrics(run: Run) -> Iterator[None]:
    """Samples the machine every few seconds, and once at the end so that a short stage has figures too."""
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


def _probe(uri: str) -> None:
    """Raises UserError when nothing answers at a tracking URI with a host."""
    parts = urlsplit(uri)
    if "://" not in uri and not uri.startswith("databricks"):
        raise UserError(
            f"MLFLOW_TRACKING_URI is {uri!r}, expected an address such as http://host:5000, "
            "sqlite:////path/mlflow.db or postgresql://host/database"
        )
    if not parts.hostname and parts.scheme not in ("http", "https"):
        return
    answers: list[str] = []
    # In a thread, because no time limit holds for looking up a name.
    thread = threading.Thread(target=lambda: answers.append(_problem_at(uri)), daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    reason = answers[0] if answers else "timed out"
    if not reason:
        return
    raise UserError(
        f"MLflow does not answer at MLFLOW_TRACKING_URI={parts.scheme}://{parts.netloc.rpartition('@')[2]} "
        f"({reason}): start it, unset the variable to use mlflow.db here, or "
        "set VISIONLOOP_TRACKING=later to go on and deliver to it with the next run"
    )


def _problem_at(uri: str) -> str:
    """Why nothing can be delivered to a tracking URI with a host; empty when something answers there."""
    parts = urlsplit(uri)
    try:
        if parts.scheme in ("http", "https"):
            address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/health"
            urllib.request.urlopen(address, timeout=PROBE_SECONDS).close()
        else:
            port = parts.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}.get(parts.scheme.split("+")[0])
            if port:
                socket.create_connection((parts.hostname, port), timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError as error:
        # It answered: whether it lets us in is its own affair. 5xx is what a proxy says for a server that is down.
        return str(error) if error.code >= 500 else ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        # It answered: MLflow has settings of its own for which certificates it trusts.
        return "" if isinstance(reason, ssl.SSLCertVerificationError) else str(reason)
    return ""


_senders: list[subprocess.Popen] = []


def start_sender(root: Path) -> None:
    """Starts the process that delivers the outbox; while another one is at work it only stands by for a while."""
    log = (root / ".visionloop" / "sender.log").open("a", encoding="utf-8")
    with log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stages.lib.tracking", str(root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is for the stage
            cwd=root,  # a throw-away copy is removed while the sender still works
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(Path(__file__).parents[2])},
        )
    _senders.append(process)  # it outlives this process on purpose, and Python warns of those it forgets


def _wait_for_delivery(root: Path, folder: Path) -> None:
    """Until MLflow has everything, or takes no more."""
    start = started = moved = time.monotonic()
    pulse, restarted = 0, False
    while folder.exists() and not (folder / "undelivered").exists():
        now = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            if (latest := (root / ".visionloop" / "sender.lock").stat().st_mtime_ns) != pulse:
                pulse, moved = latest, now
        begun = (folder / "delivered.json").exists() and not restarted
        if now - moved > (STALL_SECONDS if begun else FIRST_CONTACT_SECONDS) or now - start > WAIT_SECONDS:
            break
        if now - started > 1.0 and not _sender_is_at_work(root):
            start_sender(root)
            started, restarted = now + 10.0, True
        time.sleep(0.05)
    if folder.exists():
        print(
            f"  tracking: MLflow did not take all of this run; it waits in {folder} and the next run delivers it",
            flush=True,
        )


def _sender_is_at_work(root: Path) -> bool:
    with (root / ".visionloop" / "sender.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _git_commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


def sha256_of(path: Path) -> str:
    """Of the bytes of a file, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------- the sender's side


def deliver_outbox(root: Path) -> None:
    """Delivers every run in the outbox, as it grows, until nothing is left and no stage has run for a while."""
    outbox, delivered = root / ".visionloop" / "outbox", root / ".visionloop" / "delivered"
    with (root / ".visionloop" / "sender.lock").open("a") as lock:
        if not _lock_within(HAND_OVER_SECONDS, lock):
            return
        shutil.rmtree(delivered, ignore_errors=True)
        deliveries: dict[Path, Delivery] = {}
        started, last_work = time.time(), time.monotonic()
        while time.monotonic() - last_work < IDLE_SECONDS:
            for folder in sorted(path for path in outbox.glob("*") if path.is_dir()):
                if folder not in deliveries:
                    deliveries[folder] = Delivery(folder)
                delivery = deliveries[folder]
                if time.monotonic() < delivery.not_before:
                    continue
                try:
                    if delivery.deliver() or delivery.stage_is_running():
                        last_work = time.monotonic()
                    delivery.failures = 0
                except Exception as error:  # whatever MLflow or the network has: the run waits, the others go on
                    print(f"{folder.name}: {type(error).__name__}: {error}", flush=True)
                    if started < delivery.recorded_at and time.time() < delivery.recorded_at + HAND_OVER_SECONDS:
                        return  # that stage's own sender waits for the lock, perhaps with a better password
                    delivery.not_before = time.monotonic() + RETRY_SECONDS
                    if delivery.stage_is_running():
                        last_work = time.monotonic()
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        (folder / "undelivered").touch()
                    delivery.failures += 1
                    if delivery.failures <= RETRIES:
                        last_work = time.monotonic()
            time.sleep(0.1)


def _lock_within(seconds: float, file: IO[str]) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


class Delivery:
    """Sends the events of one outbox folder to MLflow in order, and remembers how far it got."""

    def __init__(self, folder: Path):
        self.folder, self.not_before, self.failures = folder, 0.0, 0
        self.recorded_at = float(folder.name.split("-")[0]) / 1e9  # seconds since 1970
        (folder / "undelivered").unlink(missing_ok=True)
        self.state = _delivered(folder)

    def stage_is_running(self) -> bool:
        """Whether the stage that fills this folder is alive: it holds a lock for as long as it is."""
        try:
            with (self.folder / "events.jsonl").open("a") as events:
                fcntl.flock(events, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def deliver(self) -> bool:
        """Sends what is new; True when there was something. Removes the folder after the last event."""
        running = self.stage_is_running()  # before reading: what a dead stage wrote is then all there
        events = self._new_events()
        for position, event in events:
            self._send(event)
            self.state["bytes"] = position
            whole = self.folder / "delivered.new"
            whole.write_text(json.dumps(self.state))
            whole.replace(self.folder / "delivered.json")
            (self.folder.parents[1] / "sender.lock").touch()  # the sign of life that stages wait for
        if not running:
            if "run_id" in self.state and not self.state.get("ended"):
                self._client().set_terminated(self.state["run_id"], "KILLED")
            # First out of the outbox, in one step: half a record could not be delivered again.
            delivered = self.folder.parents[1] / "delivered" / self.folder.name
            delivered.parent.mkdir(exist_ok=True)
            self.folder.rename(delivered)
            shutil.rmtree(delivered)
            return True
        return bool(events)

    def _new_events(self) -> list[tuple[int, dict[str, Any]]]:
        """The whole lines after the last one sent, runs of metrics joined into one event."""
        events: list[tuple[int, dict[str, Any]]] = []
        path = self.folder / "events.jsonl"
        if not path.exists():
            return events
        with path.open("rb") as file:
            file.seek(self.state["bytes"])
            position = self.state["bytes"]
            for line in file:
                if not line.endswith(b"\n"):
                    break
                position += len(line)
                event = json.loads(line)
                if event["kind"] == "metrics":
                    event = {"kind": "metrics", "batch": [event]}
                    if events and events[-1][1]["kind"] == "metrics" and len(events[-1][1]["batch"]) < 100:
                        event["batch"] = events.pop()[1]["batch"] + event["batch"]
                events.append((position, event))
        return events

    def _client(self) -> Any:
        import mlflow

        # Some of MLflow's functions take no client: they get the same store.
        mlflow.set_tracking_uri(self.state["uri"])
        return mlflow.MlflowClient(self.state["uri"])

    def _send(self, event: dict[str, Any]) -> None:
        from mlflow import entities

        if event["kind"] == "start":
            self._start(event)
            return
        client, run_id = self._client(), self.state["run_id"]
        if event["kind"] == "metrics":
            metrics = [
                entities.Metric(name, value, one["time"], one["step"])
                for one in event["batch"]
                for name, value in one["values"].items()
            ]
            for first in range(0, len(metrics), 900):  # MLflow takes 1,000 at a time
                client.log_batch(run_id, metrics=metrics[first : first + 900])
        elif event["kind"] == "tags":
            client.log_batch(run_id, tags=[entities.RunTag(k, str(v)[:5000]) for k, v in event["values"].items()])
        elif event["kind"] == "artifact":
            path = self.folder / event["file"]
            if path.is_dir():
                client.log_artifacts(run_id, str(path), "/".join(filter(None, [event["folder"], path.name])))
            else:
                client.log_artifact(run_id, str(path), event["folder"] or None)
        elif event["kind"] == "dataset":
            data = entities.Dataset(
                name=event["name"],
                digest=event["digest"][:32],
                source_type="local",
                source=json.dumps({"uri": f"data/raw/{event['name']}"}),
                profile=json.dumps(event["profile"]),
            )
            tag = entities.InputTag("mlflow.data.context", self.state["stage"])
            client.log_inputs(run_id, [entities.DatasetInput(data, [tag])])
        elif event["kind"] == "register":
            self._register(event)
        elif event["kind"] == "end":
            client.set_terminated(run_id, event["status"], event["time"])
            self.state["ended"] = True

    def _start(self, event: dict[str, Any]) -> None:
        from mlflow import entities

        self.state |= {"uri": event["uri"], "stage": event["tags"]["stage"], "name": event["name"]}
        client = self._client()
        experiment = client.get_experiment_by_name(event["experiment"])
        experiment_id = (
            experiment.experiment_id
            if experiment
            else client.create_experiment(
                event["experiment"],
                artifact_location=event["artifacts"],
                tags={"mlflow.experimentKind": "custom_model_development"},  # or the UI shows agents and prompts
            )
        )
        tags = {key: value for key, value in event["tags"].items() if value} | {"record": self.folder.name}
        run = self._begun_run(client, experiment_id, tags.get("resume_key"))
        if run:
            # It goes on as a part of this execution's DVC experiment.
            changed = {"record": self.folder.name, "dvc_experiment": event["tags"]["dvc_experiment"]}
            client.log_batch(run.info.run_id, tags=[entities.RunTag(*tag) for tag in changed.items()])
            client.update_run(run.info.run_id, "RUNNING", event["name"])
        else:
            run = client.create_run(experiment_id, event["time"], tags, event["name"])
        params = [entities.Param(key, value[:6000]) for key, value in event["params"].items()]
        client.log_batch(run.info.run_id, params=params)
        self.state |= {"run_id": run.info.run_id, "experiment_id": experiment_id}

    def _begun_run(self, client: Any, experiment_id: str, resume_key: str | None) -> Any:
        """The run made of this record when the answer to that was lost, or that of an execution of the same work that
        did not finish."""

        def newest(wanted: str) -> Any:
            found = client.search_runs([experiment_id], wanted, order_by=["attributes.start_time DESC"], max_results=1)
            return found[0] if found else None

        run = newest(f"tags.record = '{self.folder.name}'")
        if run or not resume_key:
            return run
        run = newest(f"tags.resume_key = '{resume_key}' and attributes.status != 'FINISHED'")
        # Another execution may be at the same work: it lives on when only DVC was killed.
        others = {_delivered(folder).get("run_id") for folder in self.folder.parent.iterdir()}
        return run if run and run.info.run_id not in others else None

    def _register(self, event: dict[str, Any]) -> None:
        import mlflow
        from mlflow.models import ModelSignature

        client, name = self._client(), event["name"]
        with contextlib.suppress(mlflow.MlflowException):
            client.create_registered_model(name)
        versions = client.search_model_versions(f"name = '{name}'")
        tags = {**event["tags"], "sha256": event["sha256"], "bundle_sha256": event["bundle_sha256"]}
        number = next((v.version for v in versions if v.tags.get("bundle_sha256") == event["bundle_sha256"]), None)
        if number is None:
            trained_by = client.search_runs(
                [self.state["experiment_id"]], f"tags.model_sha256 = '{event['sha256']}'", max_results=1
            )
            # A network that came out of DVC's cache may have been trained where this store does not see.
            run_id = trained_by[0].info.run_id if trained_by else self.state["run_id"]
            saved = self.folder / "model"
            shutil.rmtree(saved, ignore_errors=True)
            mlflow.pyfunc.save_model(
                str(saved),
                python_model=str(self.folder / event["serve"]),
                artifacts={key.split(".")[0]: str(self.folder / file) for key, file in event["files"].items()},
                signature=ModelSignature.from_dict(
                    {side: json.dumps(specs) for side, specs in event["signature"].items()}
                ),
                input_example=_example(event["example"]),
                pip_requirements=event["requirements"],
            )
            model = client.create_logged_model(
                self.state["experiment_id"], name=name, source_run_id=run_id, tags=event["tags"], model_type="pyfunc"
            )
            client.log_model_artifacts(model.model_id, str(saved))
            client.finalize_logged_model(model.model_id, "READY")
            number = client.create_model_version(
                name,
                source=f"models:/{model.model_id}",
                run_id=run_id,
                tags=tags,
                description=event["description"],
                model_id=model.model_id,
            ).version
        else:
            client.update_model_version(name, number, event["description"])
            for key, value in tags.items():
                if key.startswith("metric."):  # where it came from stays
                    client.set_model_version_tag(name, number, key, value)
        client.set_registered_model_alias(name, "candidate", number)
        client.log_batch(self.state["run_id"], tags=[mlflow.entities.RunTag(f"registered.{name}", str(number))])


def _delivered(folder: Path) -> dict[str, Any]:
    """How much of a record is delivered; where a power cut tore the note of that, all is sent again."""
    try:
        return json.loads((folder / "delivered.json").read_text())
    except (OSError, ValueError):
        return {"bytes": 0}


def _example(example: Mapping[str, Any]) -> Any:
    """{"dtype": ..., "data": [...]} becomes an array, {"columns": ...} a table."""
    import numpy
    import pandas

    if "columns" in example:
        return pandas.DataFrame(example["columns"])
    return numpy.array(example["data"], dtype=example["dtype"])


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the loop tries again, and looks before it does
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    deliver_outbox(Path(sys.argv[1]))
