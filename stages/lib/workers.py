"""Maps a function over chunks with Dask, on this machine or a cluster: results in order, memory bounded.

Where it runs is no param: DASK_SCHEDULER_ADDRESS, as Dask's own programs read it, names a cluster; without it Dask's
scheduler for the threads of one machine is used, each of which has a process. The results are the same everywhere, and
a process that dies costs its tasks only: they are done again.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from stages.lib.processes import Process

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 3  # chunks in flight for each worker


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


def _map_locally(
    function: Callable[[T], R], chunks: Iterable[T], workers: int, threads: bool
) -> Generator[R, None, None]:
    """Dask computes batches of as many chunks as there are workers. It gives the results of a graph when it is done
    with all of it: so two batches are computed, each by a thread that waits, while those of a third are taken."""
    chunks, window = iter(chunks), deque[Future[tuple[R, ...]]]()
    pool, waiting = ThreadPoolExecutor(workers), ThreadPoolExecutor(AHEAD - 1)
    processes = [] if threads else [Process(getattr(function, "func", function).__module__) for _ in range(workers)]
    run = function if threads else _in_processes(function, processes)
    try:
        for process in processes:
            pool.submit(process.start)  # while Dask is imported
        compute = _with_dask(run, pool)
        while True:
            while len(window) < AHEAD - 1 and (batch := list(islice(chunks, workers))):
                window.append(waiting.submit(compute, batch))
            if not window:
                return
            yield from window.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.end()
        waiting.shutdown()
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


def _with_dask(function: Callable[[T], R], pool: ThreadPoolExecutor) -> Callable[[list[T]], tuple[R, ...]]:
    """Maps `function` over the chunks of a batch with Dask, which needs no server for the threads of `pool`."""
    import dask.threaded  # not at the top: a few images need none of it

    def compute(batch: list[T]) -> tuple[R, ...]:
        # The chunk is bound, lest Dask look for tasks in the lists that it may be made of. The scheduler is not given
        # by its name, for which Dask imports `distributed`: that takes longer than all the rest.
        tasks = [dask.delayed(partial(function, chunk), pure=False, traverse=False)() for chunk in batch]
        return dask.compute(*tasks, scheduler=dask.threaded.get, pool=pool, optimize_graph=False)

    return compute
