"""The first image with a hash, found as a dictionary would find it."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest

from stages.ingestion.duplicates import DuplicateIndex


@pytest.mark.parametrize("block", [1, 7, 10_000])
def test_it_finds_what_a_dictionary_finds_however_the_images_are_cut(block, monkeypatch):
    monkeypatch.setattr("stages.ingestion.duplicates.MAX_RECENT", 50)  # so that there are several runs
    monkeypatch.setattr("stages.ingestion.duplicates.BLOCK", block)
    numbers = np.random.default_rng(0).integers(0, 900, 2000)
    digests = [None if number % 31 == 0 else hashlib.sha256(bytes(number)).digest() for number in numbers.tolist()]
    seen: dict[bytes, int] = {}
    expected = [k if digest is None else seen.setdefault(digest, k) for k, digest in enumerate(digests)]
    for size in (1, 7, 333, 2000):
        firsts, found = DuplicateIndex(), list[int]()
        for start in range(0, 2000, size):
            found += firsts.first_occurrences(digests[start : start + size], start)
        assert found == expected
        lengths = [len(run.keys) for run in firsts._runs]
        assert all(longer >= 2 * shorter for longer, shorter in pairwise(lengths))
        assert sum(lengths) + len(firsts._recent) == len(seen)


def test_hashes_that_begin_alike_differ(monkeypatch):
    monkeypatch.setattr("stages.ingestion.duplicates.MAX_RECENT", 1)
    firsts = DuplicateIndex()
    one, other = bytes(8) + b"1" * 24, bytes(8) + b"2" * 24
    assert firsts.first_occurrences([one], 0) == [0]
    assert firsts.first_occurrences([other, one], 1) == [1, 0]
    assert firsts.first_occurrences([other, None, bytes(32), one], 3) == [1, 4, 5, 0]
    assert firsts.first_occurrences([], 7) == []
