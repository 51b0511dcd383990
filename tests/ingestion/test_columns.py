"""Columns of numbers on the disk."""

from pathlib import Path

import numpy as np
import pytest

from stages.ingestion.columns import Column
from stages.running.terminal import UserError

PAIR = np.dtype([("a", "i8"), ("b", "?")])


@pytest.mark.parametrize(
    ("dtype", "parts"), [("i4", [[1, 2], [], [3]]), ("u1", [[]]), ("f8", []), (PAIR, [[(1, True)], [(2, False)]])]
)
def test_what_was_appended_is_there(dtype, parts):
    column = Column(dtype)
    for part in parts:
        column.extend(np.array(part, dtype))
    expected = np.array([value for part in parts for value in part], dtype)
    assert len(column) == len(expected)
    np.testing.assert_array_equal(column.view(), expected)
    assert column.view().dtype == expected.dtype


def test_what_was_mapped_stays_and_cannot_be_written():
    column = Column("i8")
    column.extend([1, 2])
    before = column.view()
    column.extend([3])
    del column
    assert before.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        before[0] = 7


@pytest.mark.parametrize("count", [3, 100_000])
def test_a_full_disk_is_one_sentence(count):
    column = Column("i8")
    with Path("/dev/full").open("wb", buffering=0) as full:
        column._file = full
        with pytest.raises(UserError, match=r"has no space for the list of images .*: free some, or set TMPDIR"):
            column.extend(np.arange(count))
