"""Maps a function over chunks on a running Dask cluster; stages.running.parallel decides when.

The workers of the cluster see this checkout and its data at the same paths: a shared file system. They outlive the
stage, so each task names the code that it needs, and a worker with other code in memory reloads it. A process runs one
task at a time, because decoding redirects file descriptors: `dask worker --nthreads 1` wastes nothing.
"""

import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from stages.running.code_digest import code_digest
from stages.running.terminal import UserError

T = TypeVar("T")
R = TypeVar("R")

ROOT = Path(__file__).resolve().parents[2]
CONNECT_SECONDS = 5.0
WORKERS_SECONDS = 60.0  # to wait while there are no workers; VISIONLOOP_WORKERS_SECONDS where a queue is slower
POLL_SECONDS = 1.0  # between two counts of the workers
PACKAGES = ("numpy", "opencv-python-headless", "pandas", "pillow", "pyarrow")  # with which the tasks compute


def map_on_cluster(
    function: Callable[[T], R], chunks: Iterable[T], address: str, in_flight_per_worker: int
) -> Generator[R, None, None]:
    """Yields `function(chunk)` in the order of `chunks`, with at most `in_flight_per_worker` chunks per worker in
    flight.

    Other workers repeat the tasks of a lost one, each task as often as the scheduler's `allowed-failures` permits.
    Raises UserError when the scheduler cannot be reached or disappears, when there are no workers for a while, or when
    their code or packages differ from those of this process.
    """
    run, code, packages = _task_runner(), stages_digest(ROOT), installed_packages()
    window: deque[Future[bytes]] = deque()
    with _connected(address) as client:
        workers = _Workers(client, address)
        executor = client.get_executor(pure=False)
        try:
            for chunk in chunks:
                task = pickle.dumps((function, chunk))
                window.append(executor.submit(run, str(ROOT), code, packages, task))
                while len(window) >= in_flight_per_worker * workers.count():
                    yield pickle.loads(workers.wait_for(window.popleft()))
            while window:
                yield pickle.loads(workers.wait_for(window.popleft()))
        finally:
            if client.status == "running":
                executor.shutdown(wait=False)  # cancels what is in flight


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Yields a client of the scheduler. Raises UserError when the scheduler or the workers fail."""
    from distributed import Client
    from distributed.client import ClosedClientError
    from distributed.scheduler import KilledWorker

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="visionloop")
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at DASK_SCHEDULER_ADDRESS={address} ({error}): start one with "
            "`dask scheduler`, correct the address, or unset it to use only this machine"
        ) from None
    try:
        yield client
    except KilledWorker as error:
        raise UserError(
            f"the same task ended {error.allowed_failures + 1} workers of the Dask cluster, the last one at "
            f"{error.last_worker.address}, most likely because memory ran out: give workers more, or lower "
            "ingest.shard_mib; their logs hold details"
        ) from None
    except ImportError as error:  # code or packages, see `check_worker`
        raise UserError(f"a worker of the Dask cluster cannot run its task: {error}") from None
    except (CancelledError, ClosedClientError):
        raise UserError(
            f"the connection to the Dask scheduler at {address} was lost: run it again when the scheduler is back, or "
            "unset DASK_SCHEDULER_ADDRESS to use only this machine"
        ) from None
    finally:
        client.close()


class _Workers:
    """The workers of the cluster, whose number may change at any time."""

    def __init__(self, client: Any, address: str):
        self.client, self.address = client, address
        self.patience = float(os.environ.get("VISIONLOOP_WORKERS_SECONDS") or WORKERS_SECONDS)
        self.last_count, self.last_seen = 0, time.monotonic()  # when there was a worker
        self.polled = -POLL_SECONDS

    def count(self) -> int:
        """The number of workers, at least 1; it is at most a few seconds old."""
        now = time.monotonic()
        if now - self.polled >= POLL_SECONDS:
            try:
                self.last_count, self.polled = self.client.scheduler_info(n_workers=1)["n_workers"], now
            except OSError:
                raise CancelledError from None
            if self.last_count:
                self.last_seen = now
        return max(1, self.last_count)

    def wait_for(self, future: Future[bytes]) -> bytes:
        while not future.done():
            self.count()
            if time.monotonic() - self.last_seen > self.patience:
                raise UserError(
                    f"the Dask cluster at {self.address} has had no worker for {self.patience:.0f} seconds: start "
                    "some with `dask worker`, or set VISIONLOOP_WORKERS_SECONDS to wait longer"
                )
            try:
                return future.result(timeout=POLL_SECONDS)
            except TimeoutError:
                continue  # of this wait, or raised by the task, which is then done
        return future.result()


def _task_runner() -> Callable[[str, str, dict[str, str], bytes], bytes]:
    """The function that a worker runs for each task. A nested function is pickled with its code, so the worker does not
    need this project installed."""

    def run(root: str, code: str, packages: dict[str, str], task: bytes) -> bytes:
        import importlib
        import pickle
        import sys
        import threading
        from pathlib import Path

        from distributed import get_worker

        address, worker = get_worker().address, get_worker().__dict__
        with worker.setdefault("visionloop_lock", threading.Lock()):
            if worker.get("visionloop_code") != (root, code):
                if not Path(root).is_dir():
                    raise ImportError(f"{address} has no folder {root}, which must be on a shared file system")
                for name in [name for name in sys.modules if name.partition(".")[0] == "stages"]:
                    del sys.modules[name]
                sys.path[:] = [root, *(path for path in sys.path if path != worker.get("visionloop_root"))]
                worker["visionloop_root"] = root
                importlib.invalidate_caches()
                importlib.import_module("stages.running.cluster").check_worker(address, root, code, packages)
                worker["visionloop_code"] = root, code
            function, chunk = pickle.loads(task)
            return pickle.dumps(function(chunk), protocol=5)

    return run


def check_worker(address: str, root: str, code: str, packages: dict[str, str]) -> None:
    """Raises ImportError when the worker that runs this has other code or packages than the task needs."""
    if stages_digest(Path(root)) != code:
        raise ImportError(
            f"{address} sees other files below {root}/stages than the stage did when it started: they were changed, or "
            "the file system lags behind; run the stage again"
        )
    found = installed_packages()
    for name, expected in packages.items():
        if found[name] != expected:
            raise ImportError(
                f"{address} has {name} {found[name] or '(not installed)'}, expected {expected or '(not installed)'} as "
                "here: install the packages of requirements.lock, because the same bytes need the same versions"
            )


def stages_digest(root: Path) -> str:
    """The digest of the Python files below stages/, which hold the code of all tasks."""
    return code_digest(root / "stages", root, "*.py")


def installed_packages() -> dict[str, str]:
    """The installed versions of PACKAGES; empty where a package is missing."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions
