"""stages.ingestion.splits: where an image goes is a function of its pixels."""

import hashlib
from collections import Counter

from stages.ingestion.splits import Splitter

HASHES = [hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(5000)]


def test_shares_are_as_asked():
    count = Counter(Splitter((), 0.2, 0.1).assign(None, sha256) for sha256 in HASHES)
    assert abs(count["test"] - 1000) < 120  # four standard deviations of a binomial
    assert abs(count["val"] - 500) < 90


def test_the_ends_of_the_range():
    splitter = Splitter((), 0.2, 0.1)
    assert splitter.assign(None, bytes(32)) == "test"
    assert splitter.assign(None, b"\xff" * 32) == "train"
    assert {Splitter((), 0, 0).assign(None, sha256) for sha256 in HASHES} == {"train"}


def test_splits_of_the_data_set_are_kept():
    assert {Splitter({"train", "test"}, 0.2, 0.1).assign("test", sha256) for sha256 in HASHES} == {"test"}
    assert {Splitter({"train", "test"}, 0.2, 0.1).assign("train", sha256) for sha256 in HASHES} == {"train", "val"}
    assert {Splitter({"train", "val", "test"}, 0.2, 0.1).assign("train", sha256) for sha256 in HASHES} == {"train"}


def test_val_is_the_same_whether_or_not_the_data_set_brings_a_test_split():
    carved, official = Splitter((), 0.2, 0.1), Splitter({"test", "train"}, 0.2, 0.1)
    for sha256 in HASHES:
        assert (carved.assign("train", sha256) == "val") == (official.assign("train", sha256) == "val")
