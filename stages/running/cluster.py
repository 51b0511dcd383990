"""Maps a function over chunks on a Dask cluster that is there already; stages.running.parallel says when.

The workers of the cluster see this checkout and its data at the same paths: a shared file system. They outlive the
stage, so each task names the code that it is meant for, and a worker that has other code in memory loads it again. One
task runs at a time in a process, for decoding redirects file descriptors: `dask worker --nthreads 1` wastes nothing.
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
WORKERS_SECONDS = 60.0  # without any worker; VISIONLOOP_WORKERS_SECONDS where a queue is slower
LOOK_SECONDS = 1.0  # between two looks at how many workers there are
PACKAGES = ("numpy", "opencv-python-headless", "pandas", "pillow", "pyarrow")  # in which the tasks compute


def map_on_cluster(
    function: Callable[[T], R], chunks: Iterable[T], address: str, in_flight_per_worker: int
) -> Generator[R, None, None]:
    """Yields `function(chunk)` in the order of `chunks`; at most `in_flight_per_worker` chunks per worker
    are in flight.

    The tasks of a worker that is lost are done again by others, each of them as often as the scheduler's
    `allowed-failures` says. Raises UserError when the scheduler cannot be reached or goes away, when there are no
    workers for a while, or when they see other code or have other packages than this process.
    """
    run, code, packages = _task(), stages_digest(ROOT), installed_packages()
    window: deque[Future[bytes]] = deque()
    with _connected(address) as client:
        crew = _Crew(client, address)
        executor = client.get_executor(pure=False)
        try:
            for chunk in chunks:
                task = pickle.dumps((function, chunk))
                window.append(executor.submit(run, str(ROOT), code, packages, task))
                while len(window) >= in_flight_per_worker * crew.size():
                    yield pickle.loads(crew.wait_for(window.popleft()))
            while window:
                yield pickle.loads(crew.wait_for(window.popleft()))
        finally:
            if client.status == "running":
                executor.shutdown(wait=False)  # takes back what is in flight


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A client of the scheduler; whatever says that it is gone ends in one sentence."""
    from distributed import Client
    from distributed.client import ClosedClientError
    from distributed.scheduler import KilledWorker

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False, name="visionloop")
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Dask scheduler answers at DASK_SCHEDULER_ADDRESS={address} ({error}): start one with "
            "`dask scheduler`, correct the address, or unset it to work on this machine alone"
        ) from None
    try:
        yield client
    except KilledWorker as error:
        raise UserError(
            f"the same task ended {error.allowed_failures + 1} workers of the Dask cluster, the last one at "
            f"{error.last_worker.address}, most likely for want of memory: give workers more of it, or lower "
            "ingest.shard_mib; their logs say more"
        ) from None
    except ImportError as error:  # code or packages, see `check_worker`
        raise UserError(f"a worker of the Dask cluster cannot do its task: {error}") from None
    except (CancelledError, ClosedClientError):
        raise UserError(
            f"the connection to the Dask scheduler at {address} was lost: run it again when the scheduler is back, or "
            "unset DASK_SCHEDULER_ADDRESS to work on this machine alone"
        ) from None
    finally:
        client.close()


class _Crew:
    """The workers of the cluster: they may become more or fewer at any time."""

    def __init__(self, client: Any, address: str):
        self.client, self.address = client, address
        self.patience = float(os.environ.get("VISIONLOOP_WORKERS_SECONDS") or WORKERS_SECONDS)
        self.count, self.seen = 0, time.monotonic()  # when there was a worker
        self.looked = -LOOK_SECONDS

    def size(self) -> int:
        """How many there are, at least 1: it is no more than a few seconds old."""
        now = time.monotonic()
        if now - self.looked >= LOOK_SECONDS:
            try:
                self.count, self.looked = self.client.scheduler_info(n_workers=1)["n_workers"], now
            except OSError:
                raise CancelledError from None
            if self.count:
                self.seen = now
        return max(1, self.count)

    def wait_for(self, future: Future[bytes]) -> bytes:
        while not future.done():
            self.size()
            if time.monotonic() - self.seen > self.patience:
                raise UserError(
                    f"the Dask cluster at {self.address} has had no worker for {self.patience:.0f} seconds: start "
                    "some with `dask worker`, or set VISIONLOOP_WORKERS_SECONDS to wait for longer"
                )
            try:
                return future.result(timeout=LOOK_SECONDS)
            except TimeoutError:
                continue  # of this wait, or of the task, which is done then
        return future.result()


def _task() -> Callable[[str, str, dict[str, str], bytes], bytes]:
    """What a worker is asked to run. A function inside a function is pickled with its code, so that the worker need
    know nothing of this project before."""

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
    """Raises ImportError when the worker in which this runs does not see the code or have the packages that a task is
    meant for."""
    if stages_digest(Path(root)) != code:
        raise ImportError(
            f"{address} sees other files below {root}/stages than the stage did when it started: they were changed, or "
            "the file system lags behind; run it again"
        )
    found = installed_packages()
    for name, expected in packages.items():
        if found[name] != expected:
            raise ImportError(
                f"{address} has {name} {found[name] or 'not at all'}, and {expected or 'none'} is here: the same bytes "
                "need the same packages, those of requirements.lock"
            )


def stages_digest(root: Path) -> str:
    """Of the Python files that tasks are made of."""
    return code_digest(root / "stages", root, "*.py")


def installed_packages() -> dict[str, str]:
    """The versions of PACKAGES here; an empty one where a package is missing."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions
