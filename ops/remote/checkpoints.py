"""Copies of checkpoints in the DVC remote, so that a training whose machine is lost goes on elsewhere.

They lie in `checkpoints/` of the remote, in the folders that stages/training/checkpoints.py names by everything that
shapes the result: another machine takes one up only when code, params, data and its own fingerprint are the same.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from dvc.repo import Repo

from ops.project import credentials
from stages.running.checkout import main_checkout
from stages.training.checkpoints import FORGOTTEN_AFTER


class RemoteCheckpoints:
    """The checkpoints of one stage, here and in the default DVC remote."""

    def __init__(self, stage: str):
        self.stage, self.here = stage, main_checkout() / ".visionloop" / "checkpoints"
        with Repo() as repo:
            remote = repo.cloud.get_remote()
        self.remote: Any = remote.fs
        self.there = self.remote.join(remote.path, "checkpoints")
        self.pushed: dict[str, Path] = {}  # by the name of the folder

    def pull(self) -> int:
        """Fetches the checkpoint of each unfinished training of this stage that is not here; returns how many.

        Those that nobody took up for a month are removed.
        """
        count = 0
        for name, file in self._in_remote().items():
            target = self.here / name
            if time.time() - self.remote.fs.modified(file).timestamp() > FORGOTTEN_AFTER:
                self._remove(name)
            elif not target.exists():
                target.mkdir(parents=True)
                self.remote.get_file(file, str(target / PurePosixPath(file).name))
                count += 1
        return count

    def push(self) -> None:
        """Copies the newest checkpoint of each training here to the remote, and removes the one before it there."""
        newest = {path.parent.name: path for path in sorted(self.here.glob(f"{self.stage}-*/*.npz"))}
        for name, path in newest.items():
            before = self.pushed.get(name)
            if path == before:
                continue
            folder = self.remote.join(self.there, name)
            self.remote.makedirs(folder)
            self.remote.put_file(str(path), self.remote.join(folder, path.name))
            self.pushed[name] = path
            if before:
                self.remote.remove(self.remote.join(folder, before.name))

    def remove_finished(self) -> None:
        """Removes from the remote what is finished here."""
        for name in [name for name in self._in_remote() if name in self.pushed and not (self.here / name).exists()]:
            self._remove(name)

    def _in_remote(self) -> dict[str, str]:
        """The newest file of each training, by the name of its folder."""
        if not self.remote.exists(self.there):
            return {}
        files = sorted(str(file) for file in self.remote.find(self.there))
        return {
            PurePosixPath(file).parent.name: file
            for file in files
            if PurePosixPath(file).parent.name.startswith(f"{self.stage}-") and file.endswith(".npz")
        }

    def _remove(self, name: str) -> None:
        self.remote.remove(self.remote.join(self.there, name), recursive=True)


@contextmanager
def pushed_every(seconds: float, checkpoints: RemoteCheckpoints) -> Iterator[None]:
    """Pushes the checkpoints in the background while the block runs."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(seconds):
            try:
                credentials.refresh()
                checkpoints.push()
            except Exception as error:  # whatever the cloud has: the training goes on, and the next push may work
                print(f"  checkpoints are not pushed for now: {type(error).__name__}: {error}", flush=True)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
