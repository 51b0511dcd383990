"""A Dask scheduler and workers as a user starts them, for tests."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import user_environment

DASK = str(Path(sys.executable).with_name("dask"))


class DaskProcesses:
    """`dask scheduler`, and as many `dask worker` of one thread as are asked for, in a folder of their own."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder, self.environment = folder, user_environment() | environment
        self.log = (folder / "log").open("ab")
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", "s.json")
        self.workers: list[subprocess.Popen] = []
        deadline = time.monotonic() + 60
        while not (folder / "s.json").exists() or not (folder / "s.json").read_text():
            assert self.scheduler.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        self.address = json.loads((folder / "s.json").read_text())["address"]

    def _start(self, *arguments: str) -> subprocess.Popen:
        command = [DASK, *arguments, "--no-dashboard"]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )

    def start_workers(self, count: int) -> None:
        """Without nannies, so that one that is killed does not come back."""
        for _ in range(count):
            self.workers.append(self._start("worker", self.address, "--nthreads", "1", "--no-nanny"))

    def kill_worker(self) -> None:
        """By SIGKILL."""
        worker = self.workers.pop()
        worker.kill()
        worker.wait()

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        self.log.close()


@contextmanager
def dask_processes(folder: Path, workers: int, **environment: str) -> Iterator[DaskProcesses]:
    """A cluster that ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    processes = DaskProcesses(folder, environment)
    try:
        processes.start_workers(workers)
        yield processes
    finally:
        processes.end()
