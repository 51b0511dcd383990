"""Columns that stand for a list of images to decode."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from stages.imaging.decode import Extent, Payload
from stages.ingestion.items import SPLITS, Files, Item, Items

PAYLOADS: dict[str, Payload] = {
    "b/2.png": Extent("/set.zip", 10, 5, 7, 8, 0xFFFFFFFF),
    "a/1.png": Extent("/set.zip", 0, 5, 5, None),
    "a/\u00e9.png": Extent("/elsewhere/1.png"),
    "a/10.png": "not an image, and why",
    "b/far.png": Extent("/set.zip", 2**64, 5, 7, 0, 1),
    "c/own.png": Extent("/set.zip/c/own.png"),
}


def files() -> Files:
    found = Files("/set.zip")
    for name, payload in PAYLOADS.items():
        found.add(name, payload)
    return found


def test_payloads_come_back_as_they_were():
    kept = files()
    everything = np.arange(len(PAYLOADS))
    assert kept.names(everything).to_pylist() == list(PAYLOADS)
    assert kept.payloads(everything, list(PAYLOADS)) == list(PAYLOADS.values())


def test_the_order_is_by_name_and_a_later_file_replaces_an_earlier_one():
    kept = files()
    kept.add("a/1.png", "the new one")
    names = kept.names(kept.order()).to_pylist()
    assert names == sorted(PAYLOADS)
    assert kept.payloads(kept.order()[:1], names) == ["the new one"]
    assert list(kept.by_name()) == sorted((PAYLOADS | {"a/1.png": "the new one"}).items())
    assert Files().order().tolist() == []


def test_items_are_a_sequence():
    image = np.zeros((2, 2), np.uint8)
    listed = [Item("x", "train", 1, "bad"), Item("a", None, 0, image), Item("b", "test", 2, Extent("/b"))]
    items = Items.of(listed)
    assert Items.of(items) is items
    assert list(items) == listed
    assert (len(items), items[1], items[-1].source) == (3, listed[1], "b")
    assert list(items[1:]) == listed[1:]
    assert items.official_splits() == {"train", "", "test"}
    assert [item.source for item in items.take([2, 0])] == ["b", "x"]
    assert list(Items.of([])) == []
    assert Items.of([]).groups() == []


def test_groups_are_those_of_split_and_label_in_order():
    listed = [Item(str(k), ("train", "test")[k % 2], k % 3, "bad") for k in range(12)]
    groups = Items.of(listed).groups()
    assert sorted(group.tolist() for group in groups) == [[k, k + 6] for k in range(6)]


def test_the_test_set_is_processed_first_and_names_are_in_the_order_of_python():
    names = ["b", "a", "\u00e9", "z", "\U0001f600", "\uffee", "a/b", "a b"]
    listed = [Item(name, split, 0, "bad") for name in names for split in ("train", None, "val", "test")]
    found = list(Items.of(listed).in_processing_order())
    assert [item.source for item in found if item.split == "test"] == sorted(names)
    assert [item.split for item in found[:16]] == ["test"] * 8 + ["val"] * 8
    assert [item.source for item in found[16:]] == sorted([*names, *names])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 6, 7])
def test_however_many_are_python_objects_at_a_time(count, monkeypatch):
    monkeypatch.setattr("stages.ingestion.items.ITEMS_AT_A_TIME", 3)
    listed = [Item(f"a/{9 - k}", SPLITS[k % 4], k, Extent("/set.zip", k, 5, 7, 8, 1)) for k in range(count)]
    kept = Files("/set.zip")
    for item in [*listed, *listed]:
        kept.add(item.source, item.payload)
    assert kept.order().tolist() == list(range(2 * count))[: count - 1 : -1]
    assert list(kept.by_name()) == [(item.source, item.payload) for item in listed[::-1]]
    items = Items.of(listed)
    assert list(items) == listed
    in_order = [
        item for splits in (["test"], ["val"], ["train", None]) for item in listed[::-1] if item.split in splits
    ]
    assert list(items.in_processing_order()) == in_order
    assert list(items.in_processing_order().in_processing_order()) == in_order


def test_what_is_known_of_a_file_is_not_held_in_memory():
    kept = Files("/set.zip")
    of_arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    for index in range(50_000):
        kept.add(f"class/{index:08d}.png", Extent("/set.zip", 1000 * index, 900, 900, 0, index))
    items = Items(kept, kept.order(), np.zeros(50_000, np.int8), np.zeros(50_000, np.int32)).in_processing_order()
    assert len(items.sources()) == 50_000
    held = tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - of_arrow
    tracemalloc.stop()
    assert held / 50_000 < 10
