"""Chunks in processes of this machine: order, how many are in flight, and what happens when a process dies."""

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stages.running.parallel import ordered_map
from stages.running.terminal import UserError
from tests.conftest import ROOT


def square(number: int) -> int:
    return number * number


def process_and_thread(number: int) -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def wait_and_mark(paths: tuple[Path | None, Path | None]) -> str:
    awaited, mark = paths
    if mark:
        mark.touch()
        return "marked"
    deadline = time.monotonic() + 60
    while awaited and not awaited.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return "waited"


def fail(number: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def end_process(number: int) -> int:
    os._exit(1)


def end_process_once(mark: str) -> int:
    """Ends its process unless the mark is there, which it leaves."""
    if mark and not Path(mark).exists():
        Path(mark).touch()
        os._exit(1)
    return 7


def test_results_come_in_order_and_little_is_in_flight():
    taken = 0

    def numbers():
        nonlocal taken
        while taken < 40:
            yield taken
            taken += 1

    results = ordered_map(square, numbers(), workers=2)
    assert next(results) == 0
    assert taken <= 6
    assert list(results) == [number**2 for number in range(1, 40)]


def test_threads_are_of_this_process():
    processes = ordered_map(process_and_thread, range(40), workers=2, threads=True)
    found = list(processes)
    assert {process for process, _ in found} == {os.getpid()}
    assert threading.get_ident() not in {thread for _, thread in found}


@pytest.mark.parametrize("threads", [False, True])
def test_each_worker_has_three_chunks_in_flight_and_no_more(threads):
    taken = 0

    def numbers():
        nonlocal taken
        while taken < 40:
            yield taken
            taken += 1

    results = ordered_map(square, numbers(), workers=3, threads=threads)
    for number in range(31):
        assert next(results) == number**2
        assert taken == number + 8  # 9 are in flight until this result is yielded, and the next is taken after that
    assert list(results) == [number**2 for number in range(31, 40)]


def test_workers_work_at_the_same_time_and_the_order_is_that_of_the_chunks(tmp_path):
    """The first chunk is done only after the second one was."""
    chunks = [(tmp_path / "second", None), (None, tmp_path / "second")]
    assert list(ordered_map(wait_and_mark, chunks, workers=2)) == ["waited", "marked"]


def test_fewer_chunks_than_workers_are_enough():
    assert list(ordered_map(square, [], workers=2)) == []
    assert list(ordered_map(square, [3], workers=2)) == [9]


def test_dask_is_not_imported_on_one_machine():
    code = (
        "import sys; from stages.running.parallel import ordered_map; from tests.running.test_parallel import square; "
        "print([*ordered_map(square, range(3), workers=2), *ordered_map(square, [3], workers=2, threads=True)]); "
        "print(sorted({'dask', 'distributed'} & set(sys.modules)))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "DASK_SCHEDULER_ADDRESS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[0, 1, 4, 9]\n[]\n"


def test_chunks_that_are_lists_arrive_as_they_are():
    chunks = [[("a", 1), ("b", [2])], [], [("c", 3)]]
    assert list(ordered_map(repr, chunks, workers=2)) == [repr(chunk) for chunk in chunks]


def test_an_error_of_the_chunks_is_raised_and_leaves_nothing():
    def numbers():
        yield from range(5)
        raise ValueError("the archive is cut off")

    processes = {*multiprocessing.active_children()}
    with pytest.raises(ValueError, match="the archive is cut off"):
        list(ordered_map(square, numbers(), workers=2))
    assert {*multiprocessing.active_children()} == processes


def test_one_worker_is_this_process():
    assert list(ordered_map(lambda _: os.getpid(), [0], workers=1)) == [os.getpid()]


@pytest.mark.parametrize("threads", [False, True])
def test_an_error_of_a_task_is_raised_here_as_it_was(threads):
    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device$") as raised:
        list(ordered_map(fail, range(9), workers=2, threads=threads))
    assert raised.value.errno == errno.ENOSPC


@pytest.mark.parametrize("threads", [False, True])
def test_nothing_is_left_of_a_map_that_is_closed_early(threads):
    processes, before = {*multiprocessing.active_children()}, {*threading.enumerate()}
    results = ordered_map(square, range(1000), workers=2, threads=threads)
    assert [next(results), next(results)] == [0, 1]
    results.close()
    assert {*multiprocessing.active_children()} == processes
    assert {*threading.enumerate()} == before


def test_a_worker_that_is_killed_costs_its_tasks_only(tmp_path):
    chunks = [*[""] * 20, str(tmp_path / "first"), *[""] * 20, str(tmp_path / "second"), ""]
    assert list(ordered_map(end_process_once, chunks, workers=2)) == [7] * 43
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_workers_that_are_killed_again_and_again_are_one_sentence():
    with pytest.raises(UserError, match="the system ended"):
        list(ordered_map(end_process, range(3), workers=2))
