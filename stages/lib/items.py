"""The images of a data set before decoding, column by column: a hundred bytes for each, where Python's objects would
take a thousand."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.lib.decode import Extent, Payload
from stages.lib.splits import ORDER

AT_A_TIME = 2**14  # names or items that are Python objects at the same time
SPLITS = (None, "train", "val", "test")  # that a data set itself may bring


class Item(NamedTuple):
    """One image to decode."""

    source: str  # path inside the data set
    split: str | None  # where the data set itself says so
    label: int
    payload: Payload


class Files:
    """Names and payloads in the order in which they were added.

    root: the archive in which the files lie, or the folder below which they lie under their names; payloads that are
    anything else are kept as they are.
    """

    def __init__(self, root: str = ""):
        self.root = root
        self._parts: list[pa.Array] = []
        self._fresh: list[str] = []
        self._methods, self._crcs = array("b"), array("I")
        self._offsets, self._stored, self._sizes = array("q"), array("q"), array("q")
        self._others: dict[int, Payload] = {}

    @classmethod
    def of(cls, payloads: Mapping[str, Payload]) -> "Files":
        files = cls()
        for name, payload in payloads.items():
            files.add(name, payload)
        return files

    def add(self, name: str, payload: Payload) -> None:
        """Adds a file; it replaces one of the same name for whoever reads in `order`."""
        self._fresh.append(name)
        extent = Extent("")
        if isinstance(payload, Extent) and self._is_regular(name, payload):
            extent = payload
        else:
            self._others[len(self)] = payload
        self._offsets.append(extent.offset)
        self._stored.append(extent.stored)
        self._sizes.append(extent.size)
        self._methods.append(-1 if extent.zip_method is None else extent.zip_method)
        self._crcs.append(extent.crc)
        if len(self._fresh) == AT_A_TIME:
            self._settle()

    def _is_regular(self, name: str, extent: Extent) -> bool:
        if extent.stored < 0:
            return extent == Extent(f"{self.root}/{name}")
        return extent.path == self.root and max(extent.offset, extent.stored, extent.size) < 2**63

    def _settle(self) -> None:
        self._parts.append(pa.array(self._fresh, pa.large_string()))
        self._fresh = []

    def __len__(self) -> int:
        return len(self._offsets)

    def names(self) -> pa.Array:
        """large_string [n]."""
        if self._fresh or len(self._parts) != 1:
            self._settle()
            self._parts = [pa.concat_arrays(self._parts)]
        return self._parts[0]

    def order(self) -> np.ndarray:
        """Positions int64 [n] by name; of several files of one name the last one added alone."""
        names = self.names()
        order = pc.array_sort_indices(names).to_numpy().astype(np.int64)  # stable
        ordered = names.take(pa.array(order))
        last = np.ones(len(order), bool)
        last[:-1] = pc.not_equal(ordered.slice(0, max(0, len(order) - 1)), ordered.slice(1)).to_numpy(False)
        return order[last]

    def by_name(self) -> Iterator[tuple[str, Payload]]:
        """Names with their payloads, in order."""
        order = self.order()
        for start in range(0, len(order), AT_A_TIME):
            positions = order[start : start + AT_A_TIME]
            names = self.names().take(pa.array(positions)).to_pylist()
            yield from zip(names, map(self.payload, positions.tolist(), names), strict=True)

    def payload(self, position: int, name: str) -> Payload:
        """That of the file at this position, whose name is given."""
        if (other := self._others.get(position)) is not None:
            return other
        stored, method = self._stored[position], self._methods[position]
        if stored < 0:
            return Extent(f"{self.root}/{name}")
        return Extent(
            self.root,
            self._offsets[position],
            stored,
            self._sizes[position],
            None if method < 0 else method,
            self._crcs[position],
        )


class Items(Sequence[Item]):
    """Some files of a data set, each with a label and the split that the data set itself says, if any.

    positions: int64 [n] in `files`; splits: int8 [n], indices into SPLITS; labels: int32 [n].
    """

    def __init__(self, files: Files, positions: np.ndarray, splits: np.ndarray, labels: np.ndarray):
        self.files, self.positions, self.labels = files, positions, labels
        self._splits = splits

    @classmethod
    def of(cls, items: Sequence[Item]) -> "Items":
        if isinstance(items, Items):
            return items
        files = Files()
        for item in items:
            files.add(item.source, item.payload)
        splits = np.array([SPLITS.index(item.split) for item in items], np.int8)
        return cls(files, np.arange(len(items)), splits, np.array([item.label for item in items], np.int32))

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> "Items": ...

    def __getitem__(self, index: int | slice) -> "Item | Items":
        if isinstance(index, slice):
            return self.take(index)
        (item,) = self.take([range(len(self))[index]])
        return item

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), AT_A_TIME):
            part = self.take(slice(start, start + AT_A_TIME))
            columns = part.sources(), part.splits(), part.labels.tolist(), part.payloads()
            yield from map(Item, *columns)

    def take(self, which: slice | Sequence[int] | np.ndarray) -> "Items":
        """Those, in that order."""
        return Items(self.files, self.positions[which], self._splits[which], self.labels[which])

    def sources(self) -> list[str]:
        return self.files.names().take(pa.array(self.positions)).to_pylist()

    def splits(self) -> list[str | None]:
        return [SPLITS[split] for split in self._splits]

    def payloads(self) -> list[Payload]:
        return list(map(self.files.payload, self.positions.tolist(), self.sources()))

    def splits_brought(self) -> set[str]:
        """The splits that the data set itself brings; "" where it says none."""
        return {SPLITS[split] or "" for split in np.unique(self._splits)}

    def groups(self) -> list[np.ndarray]:
        """Indices of the items of each split and label."""
        _, group = np.unique(self._splits.astype(np.int64) << 32 | self.labels, return_inverse=True)
        order = np.argsort(group, kind="stable")
        return np.split(order, np.cumsum(np.bincount(group))[:-1]) if len(order) else []

    def in_processing_order(self) -> "Items":
        """Test, val, the rest, each by path: of two equal images the one in the test set stays."""
        rank = np.array([ORDER.get(split or "train", 2) for split in SPLITS], np.int8)
        names = self.files.names().take(pa.array(self.positions))
        keys = pa.table({"rank": rank[self._splits], "source": names})
        return self.take(pc.sort_indices(keys, [("rank", "ascending"), ("source", "ascending")]).to_numpy())
