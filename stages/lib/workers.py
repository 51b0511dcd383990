"""Maps a function over chunks in worker processes, results in order, memory bounded."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from stages.lib.terminal import UserError

T = TypeVar("T")
R = TypeVar("R")


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(function: Callable[[T], R], chunks: Iterable[T], workers: int) -> Generator[R, None, None]:
    """Yields `function(chunk)` in the order of `chunks`, at most three chunks per worker in flight.

    With one worker everything happens in this process; more end when the generator does, or is closed. `function` and
    the chunks must be picklable.
    """
    if workers <= 1:
        yield from map(function, chunks)
        return
    # Not fork: this process may have threads. The server imports what the function needs once, for all workers.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([getattr(function, "func", function).__module__])
    pool = ProcessPoolExecutor(workers, context, initializer=_leave_interrupts_to_parent)
    window: deque[Future[R]] = deque()
    try:
        for chunk in chunks:
            window.append(pool.submit(function, chunk))
            if len(window) >= 3 * workers:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    except BrokenProcessPool:
        raise UserError("a worker process was ended by the system, most likely for want of memory") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
