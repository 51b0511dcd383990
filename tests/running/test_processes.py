"""A process that calls functions: what it hands on, and what happens when it dies."""

import errno
import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from stages.running.processes import Process
from stages.running.terminal import UserError


@pytest.fixture
def process():
    before = {*multiprocessing.active_children()}
    process = Process(__name__)
    yield process
    process.end()
    assert {*multiprocessing.active_children()} == before


def add(a: int, b: int) -> int:
    return a + b


def fail() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def give_unpicklable() -> object:
    return lambda: 0


class Unpicklable(Exception):
    def __init__(self, done: int, total: int):
        super().__init__(f"{done} of {total}")


def fail_unpicklably() -> None:
    raise Unpicklable(3, 4)


def note_and_end(notes: str) -> None:
    with Path(notes).open("a", encoding="utf-8") as file:
        file.write("x")
    os._exit(1)


def end_first(mark: str) -> int:
    """Ends its process unless the mark is there, which it leaves."""
    if not Path(mark).exists():
        Path(mark).touch()
        os._exit(1)
    return 7


def mark_and_sleep(mark: str) -> None:
    Path(mark).touch()
    time.sleep(60)


def end_in_the_middle_of_the_answer(mark: str) -> bytes:
    """As `end_first`, when half of the result is in the pipe."""

    def send_half(pipe: Connection, message: bytes) -> None:
        os.write(pipe.fileno(), struct.pack("!i", len(message)) + message[: len(message) // 2])
        os._exit(1)

    if not Path(mark).exists():
        Path(mark).touch()
        pytest.MonkeyPatch().setattr(Connection, "send_bytes", send_half)  # of that process
    return bytes(1000)


def test_results_and_errors_are_those_of_the_function(process):
    assert process.call(add, 3, 4) == 7
    assert process.call(os.getpid) == process.call(os.getpid) != os.getpid()
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device$") as raised:
        process.call(fail)
    assert raised.value.errno == errno.ENOSPC
    assert "in fail\n" in str(raised.value.__cause__)  # the traceback there
    assert process.call(add, 3, 4) == 7


def test_what_cannot_be_sent_is_an_error(process):
    with pytest.raises((AttributeError, pickle.PicklingError), match="<lambda>"):
        process.call(give_unpicklable)
    with pytest.raises(RuntimeError, match=r"^Unpicklable\('3 of 4'\)$"):
        process.call(fail_unpicklably)
    assert process.call(add, 3, 4) == 7


@pytest.mark.parametrize("function", [end_first, end_in_the_middle_of_the_answer])
def test_a_call_is_repeated_when_its_process_dies(process, function, tmp_path):
    before = process.call(os.getpid)
    assert process.call(function, str(tmp_path / "mark")) in (7, bytes(1000))
    assert process.call(os.getpid) != before


def test_a_process_that_died_between_calls_is_replaced(process):
    os.kill(process.call(os.getpid), signal.SIGKILL)
    assert process.call(add, 3, 4) == 7


def test_a_call_that_ends_every_process_is_given_up(process, tmp_path):
    with pytest.raises(UserError, match="the system ended 4 worker processes during the same task"):
        process.call(note_and_end, str(tmp_path / "notes"))
    assert (tmp_path / "notes").read_text() == "x" * 4
    assert process.call(add, 3, 4) == 7


def test_an_end_in_the_middle_of_a_call_is_at_once_and_for_good(process, tmp_path):
    with ThreadPoolExecutor(1) as waiting:
        call = waiting.submit(process.call, mark_and_sleep, str(tmp_path / "mark"))
        while not (tmp_path / "mark").exists():
            assert not call.done()
            time.sleep(0.01)
        process.end()
        with pytest.raises(RuntimeError, match="cannot start again"):
            call.result(timeout=10)
    with pytest.raises(RuntimeError, match="cannot start again"):
        process.call(add, 3, 4)


def test_a_process_starts_once_though_two_threads_want_it(process):
    before = {*multiprocessing.active_children()}
    with ThreadPoolExecutor(8) as threads:
        pipes = {*threads.map(lambda _: process.start(), range(8))}
    assert len(pipes) == len({*multiprocessing.active_children()} - before) == 1


def test_the_process_does_not_outlive_its_parent():
    """Nor does Ctrl-C end it, which a terminal sends to both."""
    code = (
        "import os, signal, sys; from stages.running.processes import Process; process = Process(); "
        "child = process.call(os.getpid); os.kill(child, signal.SIGINT); "
        "assert process.call(os.getpid) == child; print(child, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    # The output ends when the last process that holds it does.
    ran = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=60, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert int(ran.stdout) > 0
