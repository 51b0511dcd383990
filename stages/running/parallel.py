"""Maps a function over chunks, on this machine or a Dask cluster: results in order, memory bounded.

Where it runs is no param: DASK_SCHEDULER_ADDRESS, as Dask's own programs read it, names a cluster; without it the
chunks are computed by processes of this machine. The results are the same everywhere, and a process that dies costs its
own task only, which is done again.

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
    """A window of futures over one pool, whose threads compute or each wait for a process."""
    window, pool = deque[Future[R]](), ThreadPoolExecutor(workers)
    processes = [] if threads else [Process(getattr(function, "func", function).__module__) for _ in range(workers)]
    run = function if threads else _in_processes(function, processes)
    try:
        for process in processes:
            pool.submit(process.start)  # while the first chunks are made
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
    """`function`, called in whichever process is idle."""
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
