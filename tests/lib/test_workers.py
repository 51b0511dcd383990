import os

import pytest

from stages.lib.terminal import UserError
from stages.lib.workers import ordered_map


def square(number: int) -> int:
    return number * number


def end_process(number: int) -> int:
    os._exit(1)


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


def test_one_worker_is_this_process():
    assert list(ordered_map(lambda _: os.getpid(), [0], workers=1)) == [os.getpid()]


def test_a_worker_that_is_killed_is_one_sentence():
    with pytest.raises(UserError, match="ended by the system"):
        list(ordered_map(end_process, range(3), workers=2))
