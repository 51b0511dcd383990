"""Checkpoints of a training, outside DVC's outputs: a killed stage resumes where it was and ends with the same bytes.

They lie in .visionloop/checkpoints of the main checkout, in a folder named after everything that shapes the result: the
stage's params, the content of its dependencies in dvc.yaml (code and data) and the fingerprint of the machine. A
changed param, file or machine therefore has its own folder: no training resumes from a checkpoint of another one.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import threading
import time
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
import yaml

from stages.core.dataset import digest, file_digest
from stages.core.params import Params
from stages.running.checkout import main_checkout
from stages.running.code_digest import code_digest
from stages.running.launcher import is_chief
from stages.running.terminal import UserError
from stages.training.distribution import bytes_from_chief
from stages.training.fingerprint import fingerprint

SECONDS_BETWEEN_SAVES = 30.0  # unless VISIONLOOP_CHECKPOINT_SECONDS sets another value
CHECKPOINTS_KEPT = 2  # the newest, and the previous one in case the newest is damaged
EXPIRE_SECONDS = 30 * 24 * 3600.0  # age at which the checkpoints of an abandoned training are removed


class Checkpoint:
    """The saved state of one training.

    As a context manager it locks its folder (a second process with the same training waits), turns SIGTERM and Ctrl-C
    into `stop_requested`, and removes the folder when the block ends without an error.
    `memory` is the stage's own state, saved and restored with the variables: a dict of JSON values and lists of arrays.
    Of several processes only the chief accesses the folder; the others receive the state from it.
    """

    def __init__(self, stage: str, params: Params, memory: dict[str, Any]):
        self.memory, self.stop_requested = memory, False
        self.stage, self.params = stage, params
        text = os.environ.get("VISIONLOOP_CHECKPOINT_SECONDS", str(SECONDS_BETWEEN_SAVES))
        try:
            self.seconds = float(text)
        except ValueError:
            raise UserError(f"VISIONLOOP_CHECKPOINT_SECONDS is {text!r}, expected a number of seconds") from None
        self.saved_at = time.monotonic()

    @cached_property
    def key(self) -> str:
        """The hash of everything that shapes the result."""
        document = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
        parts: dict[str, Any] = {"params": self.params.model_dump(), "fingerprint": fingerprint()}
        for dependency in sorted(document["stages"][self.stage]["deps"]):
            path = Path(dependency)
            if path.is_relative_to("stages"):
                parts[dependency] = code_digest(path, Path())
            else:
                parts[dependency] = digest(path) if path.is_dir() else file_digest(path)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]

    @cached_property
    def folder(self) -> Path:
        """The folder that holds the checkpoints."""
        return main_checkout() / ".visionloop" / "checkpoints" / f"{self.stage}-{self.key}"

    def __enter__(self) -> Checkpoint:
        if is_chief():
            self._lock_folder()
        self.handlers = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.handlers[number] = signal.signal(number, self._request_stop)
        return self

    def _lock_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _remove_expired(self.folder.parent)
        # The lock file outlives the folder, because other processes wait for it.
        self.lock = self.folder.with_name(f"{self.folder.name}.lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("  another process is already running this training: waiting for it", flush=True)
            fcntl.flock(self.lock, fcntl.LOCK_EX)
            self.folder.mkdir(exist_ok=True)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if is_chief():
            if kind is None:
                shutil.rmtree(self.folder)
            self.lock.close()

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop_requested:  # the second request stops at once
            raise KeyboardInterrupt
        self.stop_requested = True

    def is_due(self) -> bool:
        """Whether the next checkpoint is due."""
        return self.stop_requested or time.monotonic() - self.saved_at >= self.seconds

    def save(self, variables: Sequence[Any], step: int, progress: dict[str, Any]) -> None:
        """Writes a checkpoint atomically; `progress` is the loop's own state, a dict of JSON values."""
        if not is_chief():
            return
        arrays = {f"variable/{i}": np.asarray(value.numpy()) for i, value in enumerate(variables)}
        plain: dict[str, Any] = {}
        for name, value in self.memory.items():
            if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
                arrays |= {f"memory/{name}/{i}": array for i, array in enumerate(value)}
            else:
                plain[name] = value
        arrays["meta"] = np.frombuffer(
            json.dumps({"step": step, "progress": progress, "memory": plain}).encode(), np.uint8
        )
        partial = self.folder / "partial"
        with partial.open("wb") as file:
            np.savez(file, **cast(Any, arrays))  # a zip file: each array has a checksum
            file.flush()
            os.fsync(file.fileno())
        partial.rename(self.folder / f"{step:012d}.npz")
        _sync_folder(self.folder)
        for old in sorted(self.folder.glob("*.npz"))[:-CHECKPOINTS_KEPT]:
            old.unlink()
        self.saved_at = time.monotonic()

    def restore(self, variables: Sequence[Any]) -> tuple[int, dict[str, Any]]:
        """Restores the variables and the memory from the newest intact checkpoint; returns its step and progress, or
        (0, {}) when there is none."""
        content = bytes_from_chief(self._newest_intact)
        if not content:
            return 0, {}
        arrays = _arrays(content)
        meta = json.loads(arrays["meta"].tobytes())
        for i, variable in enumerate(variables):
            variable.assign(arrays[f"variable/{i}"])
        self.memory.update(meta["memory"])
        for name in {key.split("/")[1] for key in arrays if key.startswith("memory/")}:
            count = sum(key.startswith(f"memory/{name}/") for key in arrays)
            self.memory[name] = [arrays[f"memory/{name}/{i}"] for i in range(count)]
        return meta["step"], meta["progress"]

    def _newest_intact(self) -> bytes:
        """The content of the newest intact checkpoint; empty when there is none."""
        for path in sorted(self.folder.glob("*.npz"), reverse=True):
            try:
                content = path.read_bytes()
                json.loads(_arrays(content)["meta"].tobytes())
                return content
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                print(f"  checkpoint {path.name} is damaged ({error}): using the previous one", flush=True)
                path.unlink()
        return b""


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_expired(folder: Path) -> None:
    for path in folder.iterdir():
        newest = max(p.stat().st_mtime for p in [path, *path.glob("*")])
        if time.time() - newest > EXPIRE_SECONDS:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
