"""Columns that stand for a list of images to decode."""

import sys

import numpy as np

from stages.lib.decode import Extent, Payload
from stages.lib.items import Files, Item, Items

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
    assert kept.names().to_pylist() == list(PAYLOADS)
    assert [kept.payload(position, name) for position, name in enumerate(PAYLOADS)] == list(PAYLOADS.values())


def test_the_order_is_by_name_and_a_later_file_replaces_an_earlier_one():
    kept = files()
    kept.add("a/1.png", "the new one")
    names = [kept.names()[position].as_py() for position in kept.order().tolist()]
    assert names == sorted(PAYLOADS)
    assert kept.payload(int(kept.order()[0]), names[0]) == "the new one"
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
    assert items.splits_brought() == {"train", "", "test"}
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


def test_a_name_takes_a_hundred_bytes():
    kept = Files("/set.zip")
    for index in range(50_000):
        kept.add(f"class/{index:08d}.png", Extent("/set.zip", 1000 * index, 900, 900, 0, index))
    columns = [value for value in vars(kept).values() if not isinstance(value, list)]
    size = kept.names().nbytes + sum(map(sys.getsizeof, columns))
    assert size / 50_000 < 100
