"""The images of a data set before decoding, as columns on disk: Python objects would take a thousand bytes of memory
for each image."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stages.imaging.decode import Extent, Payload
from stages.ingestion.columns import Column
from stages.ingestion.splits import ORDER

ITEMS_AT_A_TIME = 2**14  # that are Python objects
SPLITS = (None, "train", "val", "test")  # official ones of a data set
# A zip_method of None is -1.
EXTENT = np.dtype([("offset", "i8"), ("stored", "i8"), ("size", "i8"), ("zip_method", "i1"), ("crc", "u4")])


class Item(NamedTuple):
    """One image to decode."""

    source: str  # path inside the data set
    split: str | None  # official split, if any
    label: int
    payload: Payload


class Files:
    """Names and payloads in the order in which they were added.

    root: the archive that holds the files, or the folder below which their names are paths; all other payloads are kept
    as they are.
    """

    def __init__(self, root: str = ""):
        self.root = root
        self._names: list[str] = []  # of the last files, as `_extents`
        self._extents: list[tuple] = []
        # Of all earlier files: the names concatenated in UTF-8, where each name ends, and the extents.
        self._text, self._ends, self._flushed = Column(np.uint8), Column(np.int64), Column(EXTENT)
        self._ends.extend([0])
        self._others: dict[int, Payload] = {}
        self._mapped: tuple[pa.Array, np.ndarray] | None = None

    @classmethod
    def of(cls, payloads: Mapping[str, Payload]) -> "Files":
        files = cls()
        for name, payload in payloads.items():
            files.add(name, payload)
        return files

    def add(self, name: str, payload: Payload) -> None:
        """Adds a file; in `order`, it replaces an earlier one of the same name."""
        extent = Extent("")
        if isinstance(payload, Extent) and self._is_regular(name, payload):
            extent = payload
        else:
            self._others[len(self)] = payload
        method = -1 if extent.zip_method is None else extent.zip_method
        self._names.append(name)
        self._extents.append((extent.offset, extent.stored, extent.size, method, extent.crc))
        if len(self._names) == ITEMS_AT_A_TIME:
            self._flush()

    def _is_regular(self, name: str, extent: Extent) -> bool:
        if extent.stored < 0:
            return extent == Extent(f"{self.root}/{name}")
        return extent.path == self.root and max(extent.offset, extent.stored, extent.size) < 2**63

    def _flush(self) -> None:
        if self._names:
            _, ends, text = pa.array(self._names, pa.large_string()).buffers()
            self._ends.extend(np.frombuffer(ends, np.int64)[1 : len(self._names) + 1] + len(self._text))
            self._text.extend(np.frombuffer(text or b"", np.uint8))
            self._flushed.extend(np.array(self._extents, EXTENT))
            self._names, self._extents, self._mapped = [], [], None

    def _map(self) -> tuple[pa.Array, np.ndarray]:
        self._flush()
        if self._mapped is None:
            ends, text = (pa.py_buffer(column.view()) for column in (self._ends, self._text))
            self._mapped = pa.LargeStringArray.from_buffers(len(self), ends, text), self._flushed.view()
        return self._mapped

    def __len__(self) -> int:
        return len(self._flushed) + len(self._names)

    def names(self, positions: np.ndarray) -> pa.Array:
        """The names of the files at these positions, large_string [n]."""
        return self._map()[0].take(pa.array(positions))

    def order(self) -> np.ndarray:
        """Positions, int64 [n], by name; of several files with one name only the last one added."""
        order, last = pc.array_sort_indices(self._map()[0]).to_numpy(), Column(np.int64)  # stable
        for start in range(0, len(order), ITEMS_AT_A_TIME):
            part = order[start : start + ITEMS_AT_A_TIME]
            names = self.names(order[start : start + ITEMS_AT_A_TIME + 1])  # with the one after them
            is_last = np.ones(len(part), bool)
            is_last[: len(names) - 1] = pc.not_equal(names[:-1], names[1:]).to_numpy(zero_copy_only=False)
            last.extend(part[is_last])
        return last.view()

    def by_name(self) -> Iterator[tuple[str, Payload]]:
        """Names with their payloads, in order."""
        order = self.order()
        for start in range(0, len(order), ITEMS_AT_A_TIME):
            positions = order[start : start + ITEMS_AT_A_TIME]
            names = self.names(positions).to_pylist()
            yield from zip(names, self.payloads(positions, names), strict=True)

    def payloads(self, positions: np.ndarray, names: Sequence[str]) -> list[Payload]:
        """The payloads of the files at these positions, which have these names."""
        return list(map(self._payload, positions.tolist(), names, self._map()[1][positions].tolist()))

    def _payload(self, position: int, name: str, extent: tuple[int, int, int, int, int]) -> Payload:
        if (other := self._others.get(position)) is not None:
            return other
        offset, stored, size, method, crc = extent
        if stored < 0:
            return Extent(f"{self.root}/{name}")
        return Extent(self.root, offset, stored, size, None if method < 0 else method, crc)


class Items(Sequence[Item]):
    """Some files of a data set, each with a label and its official split, if any.

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
        for part in self.parts():
            columns = part.sources(), part.splits(), part.labels.tolist(), part.payloads()
            yield from map(Item, *columns)

    def parts(self) -> Iterator["Items"]:
        """Yields ITEMS_AT_A_TIME consecutive items at a time."""
        for start in range(0, len(self), ITEMS_AT_A_TIME):
            yield self.take(slice(start, start + ITEMS_AT_A_TIME))

    def take(self, which: slice | Sequence[int] | np.ndarray) -> "Items":
        """The items at these indices, in this order."""
        return Items(self.files, self.positions[which], self._splits[which], self.labels[which])

    def sources(self) -> list[str]:
        return self.files.names(self.positions).to_pylist()

    def splits(self) -> list[str | None]:
        return [SPLITS[split] for split in self._splits]

    def payloads(self) -> list[Payload]:
        return self.files.payloads(self.positions, self.sources())

    def official_splits(self) -> set[str]:
        """The official splits of the items; "" stands for none."""
        return {SPLITS[split] or "" for split in np.unique(self._splits)}

    def groups(self) -> list[np.ndarray]:
        """Indices of the items of each split and label."""
        _, group = np.unique(self._splits.astype(np.int64) << 32 | self.labels, return_inverse=True)
        order = np.argsort(group, kind="stable")
        return np.split(order, np.cumsum(np.bincount(group))[:-1]) if len(order) else []

    def in_processing_order(self) -> "Items":
        """Test, val, the rest, each by path: of two equal images the one in the test set stays."""
        ordered = self
        if not self._is_by_path():
            ordered = self.take(pc.array_sort_indices(self.files.names(self.positions)).to_numpy())
        rank = np.array([ORDER.get(split or "train", 2) for split in SPLITS], np.int8)
        chosen = ItemColumns()
        for wanted in np.unique(rank):
            for part in ordered.parts():
                here = rank[part._splits] == wanted
                chosen.add(part.positions[here], part._splits[here], part.labels[here])
        return chosen.items(self.files)

    def _is_by_path(self) -> bool:
        for start in range(0, len(self), ITEMS_AT_A_TIME):
            names = self.files.names(self.positions[start : start + ITEMS_AT_A_TIME + 1])  # with the one after them
            if pc.any(pc.greater(names[:-1], names[1:])).as_py():
                return False
        return True


class ItemColumns:
    """Collects items in columns on disk."""

    def __init__(self) -> None:
        self._positions, self._splits, self._labels = Column(np.int64), Column(np.int8), Column(np.int32)

    def add(self, positions: np.ndarray, splits: np.ndarray, labels: np.ndarray) -> None:
        self._positions.extend(positions)
        self._splits.extend(splits)
        self._labels.extend(labels)

    def items(self, files: Files) -> Items:
        return Items(files, self._positions.view(), self._splits.view(), self._labels.view())
