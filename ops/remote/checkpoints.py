"""Copies of checkpoints in the DVC remote, so that a training whose machine is lost can resume on another one.

They are in `checkpoints/` of the remote, in the folders that stages/training/checkpoints.py names by everything that
shapes the result: another machine resumes from one only when code, params, data and fingerprint are the same.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from ops.project import credentials
from stages.running.checkout import main_checkout
from stages.training.checkpoints import EXPIRE_SECONDS


class RemoteCheckpoints:
    """The checkpoints of one stage, here and in the default DVC remote."""

    def __init__(self, stage: str):
        from dvc.repo import Repo

        self.stage = stage
        self.local = main_checkout() / ".visionloop" / "checkpoints"
        with Repo() as repo:
            remote = repo.cloud.get_remote()
        self.remote: Any = remote.fs
        self.remote_folder = self.remote.join(remote.path, "checkpoints")
        self.pushed: dict[str, Path] = {}  # by the name of the folder

    def pull(self) -> int:
        """Fetches the checkpoint of each unfinished training of this stage that is missing here; returns their number.

        Removes checkpoints that no training resumed for a month.
        """
        count = 0
        for name, file in self._remote_files().items():
            target = self.local / name
            if time.time() - self.remote.fs.modified(file).timestamp() > EXPIRE_SECONDS:
                self._remove(name)
            elif not target.exists():
                target.mkdir(parents=True)
                self.remote.get_file(file, str(target / PurePosixPath(file).name))
                count += 1
        return count

    def push(self) -> None:
        """Copies the newest checkpoint of each local training to the remote and removes the one before it there."""
        newest = {path.parent.name: path for path in sorted(self.local.glob(f"{self.stage}-*/*.npz"))}
        for name, path in newest.items():
            before = self.pushed.get(name)
            if path == before:
                continue
            folder = self.remote.join(self.remote_folder, name)
            self.remote.makedirs(folder)
            self.remote.put_file(str(path), self.remote.join(folder, path.name))
            self.pushed[name] = path
            if before:
                self.remote.remove(self.remote.join(folder, before.name))

    def remove_finished(self) -> None:
        """Removes the checkpoints of trainings that finished here from the remote."""
        finished = [name for name in self.pushed if not (self.local / name).exists()]
        for name in self._remote_files().keys() & finished:
            self._remove(name)

    def _remote_files(self) -> dict[str, str]:
        """The newest checkpoint of each training in the remote, by the name of its folder."""
        if not self.remote.exists(self.remote_folder):
            return {}
        files = sorted(str(file) for file in self.remote.find(self.remote_folder))
        return {
            PurePosixPath(file).parent.name: file
            for file in files
            if PurePosixPath(file).parent.name.startswith(f"{self.stage}-") and file.endswith(".npz")
        }

    def _remove(self, name: str) -> None:
        self.remote.remove(self.remote.join(self.remote_folder, name), recursive=True)


@contextmanager
def pushed_every(seconds: float, checkpoints: RemoteCheckpoints) -> Iterator[None]:
    """Pushes the checkpoints in the background while the block runs."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(seconds):
            try:
                credentials.refresh()
                checkpoints.push()
            except Exception as error:  # of any cloud library: the training continues, and the next push may succeed
                print(f"  pushing checkpoints failed, to be retried: {type(error).__name__}: {error}", flush=True)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
