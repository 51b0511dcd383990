"""Maps a function over chunks in processes of this machine or of a Dask cluster: results in order, memory bounded.

Where it runs is no param: DASK_SCHEDULER_ADDRESS, as Dask's own programs read it, names a cluster. The results are the
same everywhere, and a process that dies costs its tasks only: they are done again.
"""

import multiprocessing
import os
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from stages.lib.terminal import UserError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 3  # chunks in flight for each worker
START_SECONDS, LOOK_SECONDS = 0.02, 1.0  # that a process has to start, at least; between two looks at the pool
ALLOWED_FAILURES = 3  # of the pool of processes, one after the other and without a result between them


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_temporary_folder() -> str:
    """Where to put a temporary file that workers read: on a cluster they see this checkout, but not this machine's own
    temporary folder, unless TMPDIR names another."""
    if os.environ.get("DASK_SCHEDULER_ADDRESS") and not os.environ.get("TMPDIR"):
        folder = Path(".visionloop").absolute()
        folder.mkdir(exist_ok=True)
        return str(folder)
    return tempfile.gettempdir()


def ordered_map(
    function: Callable[[T], R], chunks: Iterable[T], workers: int | None = None, *, threads: bool = False
) -> Generator[R, None, None]:
    """Yields `function(chunk)` in the order of `chunks`, at most three chunks per worker in flight.

    workers: so many processes of this machine; with one, everything happens in this process. None leaves it to the
    environment: those of the Dask cluster at DASK_SCHEDULER_ADDRESS, else one for each core. Processes end when the
    generator does, or is closed. threads: takes threads instead of processes of this machine, for a function that
    leaves Python's lock to others most of the time. `function` and the chunks must be picklable, and `function`
    importable from stages/; paths in them must be absolute: the workers of a cluster have another working directory.
    """
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if workers is None and address:
        from stages.lib.cluster import map_on_cluster  # Dask takes a second to import

        yield from map_on_cluster(function, chunks, address)
        return
    workers = workers or available_cores()
    if workers == 1:
        yield from map(function, chunks)
        return
    yield from _map_in_pool(function, chunks, workers, _start_threads if threads else _start_processes)


class _Task(Generic[T, R]):
    def __init__(self, chunk: T):
        self.chunk = chunk
        self.future: Future[R] | None = None

    def result(self, pool: Executor) -> R:
        """Raises BrokenProcessPool when the processes of the pool have ended, also when nobody told this task."""
        assert self.future is not None
        while not self.future.done():
            if not wait([self.future], LOOK_SECONDS).done:
                pool.submit(int)
        return self.future.result()

    def is_done(self) -> bool:
        return self.future is not None and self.future.done() and self.future.exception() is None


def _map_in_pool(
    function: Callable[[T], R], chunks: Iterable[T], workers: int, start: Callable[[int, Callable], Executor]
) -> Generator[R, None, None]:
    chunks, failures = iter(chunks), 0
    window: deque[_Task[T, R]] = deque()
    pool = start(workers, function)
    try:
        while True:
            window.extend(_Task(chunk) for chunk in islice(chunks, AHEAD * workers - len(window)))
            if not window:
                return
            try:
                for task in window:
                    task.future = task.future or pool.submit(function, task.chunk)
                result = window[0].result(pool)
            except BrokenProcessPool:
                failures += 1
                if failures > ALLOWED_FAILURES:
                    raise UserError(
                        f"worker processes were ended by the system, {failures} times with nothing done between, "
                        "most likely for want of memory"
                    ) from None
                pool.shutdown()
                for task in window:
                    if not task.is_done():
                        task.future = None
                pool = start(workers, function)
                continue
            window.popleft()
            failures = 0
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def _start_threads(workers: int, function: Callable) -> Executor:
    return ThreadPoolExecutor(workers)


def _start_processes(workers: int, function: Callable) -> Executor:
    # Not fork: this process may have threads. The server imports what the function needs once, for all workers.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([getattr(function, "func", function).__module__])
    pool = ProcessPoolExecutor(workers, context, initializer=_leave_interrupts_to_parent)
    # All start now: Python 3.11 waits for ever for one that starts while another one dies.
    wait([pool.submit(time.sleep, START_SECONDS) for _ in range(workers)])
    return pool


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
