"""Calls a function in another process of this machine, and in a new one should that process die.

Not concurrent.futures: the processes of its pool share two pipes, so that one which dies in the middle of a message
leaves the others, and whoever waits for them, waiting for ever. Here each has a pipe of its own.
"""

import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Lock
from typing import Any, TypeVar

from stages.running.terminal import UserError

R = TypeVar("R")

ALLOWED_FAILURES = 3  # processes that a call may cost without being given up, as Dask's `allowed-failures`


class Process:
    """A process for one call at a time; `start` and `end` may come from any thread."""

    def __init__(self, *modules: str):
        """modules: imported once, by the server of which all processes are copies."""
        # Not fork: this process may have threads.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, *modules])
        self._lock = Lock()
        self._running: tuple[BaseProcess, Connection] | None = None
        self._ended = False

    def start(self) -> Connection:
        """Starts the process unless it runs, and returns this end of its pipe. Raises RuntimeError after `end`."""
        with self._lock:
            if self._ended:
                raise RuntimeError("this process was ended for good")
            if self._running is None:
                ours, theirs = self._context.Pipe()
                process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                theirs.close()  # so that the pipe ends with the process
                self._running = process, ours
            return self._running[1]

    def call(self, function: Callable[..., R], *args: Any) -> R:
        """Returns `function(*args)`, or raises what it raised; all of these must be picklable.

        Raises UserError when the call has cost more processes than ALLOWED_FAILURES.
        """
        call = pickle.dumps((function, args), protocol=5)
        for _ in range(1 + ALLOWED_FAILURES):
            pipe = self.start()
            try:
                pipe.send_bytes(call)
                answer = pipe.recv_bytes()
            except (EOFError, OSError):
                self._stop()
                continue
            result, error, trace = pickle.loads(answer)
            if error is not None:
                raise error from RuntimeError(f"in a worker process:\n{trace}")
            return result
        raise UserError(
            f"worker processes were ended by the system, {1 + ALLOWED_FAILURES} times at the same task, most likely "
            "for want of memory"
        )

    def end(self) -> None:
        """Ends the process for good, also in the middle of a call."""
        self._ended = True
        self._stop()

    def _stop(self) -> None:
        with self._lock:
            if self._running is not None:
                process, _ = self._running
                process.kill()
                process.join()
                self._running = None


def _serve(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    with suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes()))


def _answer(call: bytes) -> bytes:
    try:
        function, args = pickle.loads(call)
        return pickle.dumps((function(*args), None, ""), protocol=5)
    except Exception as error:
        trace = traceback.format_exc()
        try:
            pickle.loads(answer := pickle.dumps((None, error, trace)))
        except Exception:  # of a class that cannot be pickled, or not be made again
            return pickle.dumps((None, RuntimeError(repr(error)), trace))
        return answer
