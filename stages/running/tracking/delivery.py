"""Delivers the outbox to MLflow: how a stage starts the delivery and waits for it, and the sender process itself.

Reads  .visionloop/outbox/NAME of the main checkout: events.jsonl, files/ (as record.py writes them); delivered.json
Writes MLflow, at the address that the record names, and its own state: delivered.json and undelivered in the record,
       .visionloop/sender.lock (locked by the one active sender, touched after each event), .visionloop/sender.log,
       .visionloop/delivered

`python -m stages.running.tracking.delivery ROOT` delivers the outbox of the checkout at ROOT.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from stages.running.tracking.mlflow_store import MlflowStore, read_progress

WAIT_SECONDS = 120.0  # of a stage at its end; the sender continues after that
STALL_SECONDS = 10.0  # without progress, after which a stage stops waiting
FIRST_CONTACT_SECONDS = 30.0  # likewise before the first event: importing MLflow and creating a store take a while
IDLE_SECONDS = 10.0  # after which the sender ends: longer than the pause between two stages
RETRY_SECONDS = 5.0
RETRIES = 3  # after the end of a stage; then its record waits for the next run
HAND_OVER_SECONDS = 15.0  # that a new sender waits for the active one to end


# ---------------------------------------------------------------- the stage's side


def start_sender(root: Path) -> None:
    """Starts the process that delivers the outbox; while another one is active, it waits for HAND_OVER_SECONDS."""
    log = (root / ".visionloop" / "sender.log").open("a", encoding="utf-8")
    with log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stages.running.tracking.delivery", str(root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is for the stage
            cwd=root,  # a temporary copy is removed while the sender still runs
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(Path(__file__).parents[3])},
        )
    process.returncode = 0  # suppresses Python's warning that it outlives this process, as it is meant to


def wait_for_delivery(root: Path, folder: Path) -> None:
    """Waits until MLflow has everything, or accepts no more."""
    start = started = last_progress = time.monotonic()
    last_touched, restarted = 0, False
    while folder.exists() and not (folder / "undelivered").exists():
        now = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            if (touched := (root / ".visionloop" / "sender.lock").stat().st_mtime_ns) != last_touched:
                last_touched, last_progress = touched, now
        begun = (folder / "delivered.json").exists() and not restarted
        if now - last_progress > (STALL_SECONDS if begun else FIRST_CONTACT_SECONDS) or now - start > WAIT_SECONDS:
            break
        if now - started > 1.0 and not _sender_is_active(root):
            start_sender(root)
            started, restarted = now + 10.0, True
        time.sleep(0.05)
    if folder.exists():
        print(f"  tracking: MLflow did not accept all of this run; it waits in {folder} for the next run", flush=True)


def _sender_is_active(root: Path) -> bool:
    with (root / ".visionloop" / "sender.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


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
                except Exception as error:  # of MLflow or the network: this run waits, the others are delivered
                    print(f"{folder.name}: {type(error).__name__}: {error}", flush=True)
                    if started < delivery.recorded_at and time.time() < delivery.recorded_at + HAND_OVER_SECONDS:
                        return  # that stage's own sender waits for the lock, perhaps with other credentials
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
    """Sends the events of one outbox folder to MLflow in order, and keeps its progress in delivered.json."""

    def __init__(self, folder: Path):
        self.folder, self.not_before, self.failures = folder, 0.0, 0
        self.recorded_at = float(folder.name.split("-")[0]) / 1e9  # seconds since 1970
        (folder / "undelivered").unlink(missing_ok=True)
        self.progress = read_progress(folder)
        self.store = MlflowStore(folder, self.progress)

    def stage_is_running(self) -> bool:
        """Whether the stage that writes this folder is alive: it holds a lock until it ends."""
        try:
            with (self.folder / "events.jsonl").open("a") as events:
                fcntl.flock(events, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def deliver(self) -> bool:
        """Sends new events, and returns whether there were any. Removes the folder after the last event."""
        running = self.stage_is_running()  # before reading: a dead stage has then written everything
        events = self._new_events()
        for position, event in events:
            self.store.send(event)
            self.progress["bytes"] = position
            new = self.folder / "delivered.new"
            new.write_text(json.dumps(self.progress))
            new.replace(self.folder / "delivered.json")
            (self.folder.parents[1] / "sender.lock").touch()  # the progress that waiting stages look for
        if not running:
            self.store.end_unless_ended()
            # First moved out of the outbox, in one step: half a record could not be delivered again.
            delivered = self.folder.parents[1] / "delivered" / self.folder.name
            delivered.parent.mkdir(exist_ok=True)
            self.folder.rename(delivered)
            shutil.rmtree(delivered)
            return True
        return bool(events)

    def _new_events(self) -> list[tuple[int, dict[str, Any]]]:
        """The complete lines after the last one sent, with consecutive metrics joined into one event."""
        events: list[tuple[int, dict[str, Any]]] = []
        path = self.folder / "events.jsonl"
        if not path.exists():
            return events
        with path.open("rb") as file:
            file.seek(self.progress["bytes"])
            position = self.progress["bytes"]
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


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # the loop retries, after it checks what arrived
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    deliver_outbox(Path(sys.argv[1]))
