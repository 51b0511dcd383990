"""Calls a function in another process of this machine, and in a new one when that process dies.

Not concurrent.futures: the processes of its pool share two pipes, so when one dies in the middle of a message, the
others and their caller wait for ever. Here each process has its own pipe.
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

ALLOWED_FAILURES = 3  # processes that may die during one call, as Dask's `allowed-failures`


class Process:
    """A process for one call at a time; any thread may call `start` and `end`."""

    def __init__(self, *modules: str):
        """modules: imported once, by the server that all processes are forked from."""
        # Not fork: this process may have threads.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, *modules])
        self._lock = Lock()
        self._running: tuple[BaseProcess, Connection] | None = None
        self._ended = False

    def start(self) -> Connection:
        """Starts the process unless it is running, and returns our end of its pipe. Raises RuntimeError after `end`."""
        with self._lock:
            if self._ended:
                raise RuntimeError("`end` was called: this process cannot start again")
            if self._running is None:
                ours, theirs = self._context.Pipe()
                process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                theirs.close()  # so that the pipe ends with the process
                self._running = process, ours
            return self._running[1]

    def call(self, function: Callable[..., R], *args: Any) -> R:
        """Returns `function(*args)`, or raises what it raised; all of these must be picklable.

        Raises UserError when more than ALLOWED_FAILURES processes die during the call.
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
            f"the system ended {1 + ALLOWED_FAILURES} worker processes during the same task, most likely because "
            "memory ran out: free some and run it again"
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
        except Exception:  # its class cannot be pickled or unpickled
            return pickle.dumps((None, RuntimeError(repr(error)), trace))
        return answer
