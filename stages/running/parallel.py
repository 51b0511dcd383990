"""Maps a function over chunks, on this machine or a Dask cluster: results in order, memory bounded.

Where it runs is not a param: DASK_SCHEDULER_ADDRESS, which Dask's own programs read, too, names a cluster; without it,
processes of this machine compute the chunks. The results are the same everywhere, and when a process dies, only its own
task is repeated.

Output-neutral: nothing here may change a byte below data/.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from stages.running.cluster import map_on_cluster
from stages.running.processes import Process

T = TypeVar("T")
R = TypeVar("R")

IN_FLIGHT_PER_WORKER = 3  # chunks


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_temporary_folder() -> str:
    """The folder for temporary files that workers read. The workers of a cluster see this checkout, but not the
    temporary folder of this machine, unless TMPDIR names a shared one."""
    if os.environ.get("DASK_SCHEDULER_ADDRESS") and not os.environ.get("TMPDIR"):
        folder = Path(".visionloop").absolute()
        folder.mkdir(exist_ok=True)
        return str(folder)
    return tempfile.gettempdir()


def ordered_map(
    function: Callable[[T], R], chunks: Iterable[T], workers: int | None = None, *, threads: bool = False
) -> Generator[R, None, None]:
    """Yields `function(chunk)` in the order of `chunks`, at most three chunks per worker in flight.

    workers: the number of processes on this machine; with one, everything runs in this process. None leaves the choice
    to the environment: the workers of the Dask cluster at DASK_SCHEDULER_ADDRESS, else one process per core. Processes
    end when the generator ends or is closed. threads: uses threads instead of processes on this machine, for a function
    that releases Python's lock most of the time. `function` and the chunks must be picklable, and `function` importable
    from stages/; paths in them must be absolute: the workers of a cluster have another working directory.
    """
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if workers is None and address:
        yield from map_on_cluster(function, chunks, address, IN_FLIGHT_PER_WORKER)
        return
    workers = workers or available_cores()
    if workers == 1:
        yield from map(function, chunks)
        return
    yield from _map_locally(function, chunks, workers, threads)


def _map_locally(
    function: Callable[[T], R], chunks: Iterable[T], workers: int, threads: bool
) -> Generator[R, None, None]:
    """Keeps a window of futures over one pool, whose threads compute, or wait for one process each."""
    window, pool = deque[Future[R]](), ThreadPoolExecutor(workers)
    processes = [] if threads else [Process(getattr(function, "func", function).__module__) for _ in range(workers)]
    run = function if threads else _in_processes(function, processes)
    try:
        for process in processes:
            pool.submit(process.start)  # while the first chunks are prepared
        for chunk in chunks:
            window.append(pool.submit(run, chunk))
            if len(window) == IN_FLIGHT_PER_WORKER * workers:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.end()
        pool.shutdown()


def _in_processes(function: Callable[[T], R], processes: Iterable[Process]) -> Callable[[T], R]:
    """`function`, called in an idle process."""
    idle = SimpleQueue[Process]()
    for process in processes:
        idle.put(process)

    def run(chunk: T) -> R:
        process = idle.get()
        try:
            return process.call(function, chunk)
        finally:
            idle.put(process)

    return run
