"""Maps a function over chunks with Dask, on this machine or a cluster: results in order, memory bounded.

Where it runs is no param: DASK_SCHEDULER_ADDRESS, as Dask's own programs read it, names a cluster; without it Dask's
schedulers for a single machine are used, which need no server. The results are the same everywhere, and a process that
dies costs its tasks only: they are done again.
"""

import multiprocessing
import os
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from stages.lib.terminal import UserError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 3  # chunks in flight for each worker
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
        from stages.lib.cluster import map_on_cluster

        yield from map_on_cluster(function, chunks, address)
        return
    workers = workers or available_cores()
    if workers == 1:
        yield from map(function, chunks)
        return
    yield from _map_locally(function, chunks, workers, threads)


class _Task(Generic[T, R]):
    def __init__(self, chunk: T):
        self.chunk = chunk
        self.future: Future[R] | None = None

    def is_lost(self) -> bool:
        """Whether it is still to be submitted, or was when the processes ended."""
        return self.future is None or (self.future.done() and isinstance(self.future.exception(), BrokenProcessPool))


def _map_locally(
    function: Callable[[T], R], chunks: Iterable[T], workers: int, threads: bool
) -> Generator[R, None, None]:
    chunks, failures = iter(chunks), 0
    window: deque[_Task[T, R]] = deque()
    start = partial(_start_threads if threads else _start_processes, workers, function)
    pool, waiting = start(), ThreadPoolExecutor(AHEAD * workers)
    try:
        waiting.submit(pool.submit, int)  # the first process starts while Dask is imported
        compute = _with_dask(function, threads)
        while True:
            window.extend(_Task(chunk) for chunk in islice(chunks, AHEAD * workers - len(window)))
            if not window:
                return
            for task in window:
                if task.is_lost():
                    task.future = waiting.submit(compute, task.chunk, pool)
            assert window[0].future is not None
            try:
                result = window[0].future.result()
            except BrokenProcessPool:
                failures += 1
                if failures > ALLOWED_FAILURES:
                    raise UserError(
                        f"worker processes were ended by the system, {failures} times with nothing done between, "
                        "most likely for want of memory"
                    ) from None
                wait([task.future for task in window if task.future])
                pool.shutdown()
                pool = start()
                continue
            window.popleft()
            failures = 0
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
        waiting.shutdown(cancel_futures=True)


def _with_dask(function: Callable[[T], R], threads: bool) -> Callable[[T, Executor], R]:
    """`function`, computed by Dask on a pool of threads or processes.

    Dask gives the results of a graph when it is done with all of it: here each chunk is a graph, and a thread waits.
    """
    import dask  # not at the top: a few images do without
    import dask.multiprocessing
    import dask.threaded

    # Not by their names, for which Dask imports `distributed`: that takes longer than all the rest.
    get = dask.threaded.get if threads else dask.multiprocessing.get

    def compute(chunk: T, pool: Executor) -> R:
        task = dask.delayed(partial(function, chunk), pure=False, traverse=False)()
        (result,) = dask.compute(task, scheduler=get, pool=pool, optimize_graph=False)
        return result

    return compute


def _start_threads(workers: int, function: Callable) -> Executor:
    return ThreadPoolExecutor(workers)


def _start_processes(workers: int, function: Callable) -> Executor:
    # Not fork: this process may have threads. The server imports what the function needs once, for all workers.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dask.multiprocessing", getattr(function, "func", function).__module__])
    return ProcessPoolExecutor(workers, context, initializer=_leave_interrupts_to_parent)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
