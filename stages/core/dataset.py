"""The data set that stages pass to each other: a folder of uint8 shards, a manifest and the class names.

train-00000.npy   uint8 [n, height, width, channels], likewise val-*, test-*; loaded without pickles
manifest.parquet  one row per image, see SCHEMA; the k-th accepted row of a split is the k-th image of its shards
classes.json      the class names; a label is an index into this list
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.running.terminal import UserError

SPLITS = ("train", "val", "test")
IMAGES_AT_A_TIME = 4096  # in memory
ROWS_AT_A_TIME, READ_AHEAD = 2**16, 2**20  # of the manifest, in memory; bytes of each of its columns

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),  # 0, 1, ... in manifest order
        ("source", pa.string()),  # path inside the data set, with forward slashes
        ("label", pa.int32()),  # index into classes.json
        ("class", pa.string()),
        ("split", pa.string()),  # train, val, test; also for rejected images, where it is known
        ("sha256", pa.string()),  # of the decoded pixels before resizing; null when the file cannot be decoded
        ("width", pa.int32()),  # of the original, px
        ("height", pa.int32()),
        ("mode", pa.string()),  # of the original, in Pillow's terms: L, RGB, P, I;16, ...
        ("mean", pa.float32()),  # of the image as stored, 0 to 255
        ("std", pa.float32()),
        ("reason", pa.string()),  # why the image was left out; null when it is accepted
    ]
)


class ShardWriter:
    """Appends images [n, height, width, channels] of one split to a series of files of about `shard_mib` MiB each."""

    def __init__(self, folder: Path, split: str, shard_mib: float):
        self.folder, self.split, self.shard_mib = folder, split, shard_mib
        self.shards = self.pending = 0  # complete shards; images in the incomplete one
        self._file: BinaryIO | None = None
        self._shape: tuple[int, ...] = ()  # of an image

    def append(self, images: np.ndarray) -> None:
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(f"expected uint8 [n, height, width, channels], got {images.dtype} {list(images.shape)}")
        self._shape = images.shape[1:]
        per_shard = max(1, int(self.shard_mib * 2**20) // int(np.prod(self._shape)))
        while len(images):
            if self._file is None:
                self._file = (self.folder / f"{self.split}-{self.shards:05d}.npy").open("wb")
                self._write_header(self._file)
            part = images[: per_shard - self.pending]
            self._file.write(np.ascontiguousarray(part).data)
            self.pending += len(part)
            images = images[len(part) :]
            if self.pending == per_shard:
                self.close()

    def _write_header(self, file: BinaryIO) -> None:
        """Writes the header as np.save does, which leaves room for the number of images to grow."""
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.pending, *self._shape)}
        np.lib.format.write_array_header_1_0(file, header)

    def close(self) -> None:
        """Completes the shard in progress, if there is one."""
        file, self._file = self._file, None
        if file is None:
            return
        with file:
            file.seek(0)
            self._write_header(file)
        self.shards += 1
        self.pending = 0


def shard_paths(folder: str | Path, split: str) -> list[Path]:
    """The shards of a split, in order; an empty list when it has no images."""
    return sorted(Path(folder).glob(f"{split}-[0-9]*.npy"))


def require(*paths: str | Path) -> None:
    """Raises UserError when a file or folder that an earlier stage writes is missing."""
    for path in paths:
        if not Path(path).exists():
            raise UserError(f"{path} not found: run `dvc repro`, which runs the stage that makes it")


def open_shards(folder: str | Path, split: str) -> list[np.ndarray]:
    """The shards of a split as memory maps, uint8 [n, height, width, channels]: nothing is read before it is used."""
    require(folder)
    shards = [np.load(path, mmap_mode="r", allow_pickle=False) for path in shard_paths(folder, split)]
    if not shards:
        remedy = "run `dvc repro`" if split == "train" else f"add images, or raise ingest.{split}_fraction"
        raise UserError(f"{folder} holds no {split} images: {remedy}")
    return shards


def pick(shards: Sequence[np.ndarray], positions: Sequence[int] | np.ndarray) -> np.ndarray:
    """The images [k, height, width, channels] at these positions of the concatenated shards, in the given order."""
    positions = np.asarray(positions, np.int64)
    starts = np.cumsum([0, *(len(shard) for shard in shards)])
    if len(positions) and not 0 <= positions.min() <= positions.max() < starts[-1]:
        raise IndexError(f"positions are {positions.min()} to {positions.max()}, expected 0 to {starts[-1] - 1}")
    shard_of = np.searchsorted(starts, positions, side="right") - 1
    images = np.empty((len(positions), *shards[0].shape[1:]), shards[0].dtype)
    for shard in np.unique(shard_of):
        chosen = shard_of == shard
        images[chosen] = shards[shard][positions[chosen] - starts[shard]]
    return images


class Images:
    """The images of a split as one array that stays on disk: `images[positions]` and `through` read what they need.

    shape: that of the array, (n, height, width, channels).
    """

    def __init__(self, folder: str | Path, split: str):
        self.shards = open_shards(folder, split)
        self.shape = (sum(map(len, self.shards)), *self.shards[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, positions: int | np.integer | slice | np.ndarray) -> np.ndarray:
        if isinstance(positions, slice):
            positions = np.arange(len(self))[positions]
        elif isinstance(positions, int | np.integer):
            return pick(self.shards, [int(positions)])[0]
        return pick(self.shards, positions)

    def through(self, network: Callable[[np.ndarray], Sequence[np.ndarray]], every: int = 1) -> list[np.ndarray]:
        """The arrays [n, ...] that `network` returns for all images, or for one in `every`, as from a single call with
        all of them: its batches are the same when their size divides IMAGES_AT_A_TIME."""
        step = IMAGES_AT_A_TIME * every
        outputs = [network(self._between(start, start + step)[::every]) for start in range(0, len(self), step)]
        return [np.concatenate(arrays) for arrays in zip(*outputs, strict=True)]

    def predict(self, network) -> np.ndarray:
        """The output [n, ...] of a Keras network for all images."""
        (output,) = self.through(lambda images: [network.predict(images, batch_size=512, verbose=0)])
        return output

    def _between(self, start: int, stop: int) -> np.ndarray:
        parts, first = [], 0
        for shard in self.shards:
            parts.append(shard[max(0, start - first) : max(0, stop - first)])
            first += len(shard)
        return np.concatenate(parts)


def read_images(folder: str | Path, split: str) -> np.ndarray:
    """All images of a split, uint8 [n, height, width, channels]. Raises UserError when there are none."""
    return np.concatenate(open_shards(folder, split))


def read_labels(folder: str | Path, split: str) -> np.ndarray:
    """int32 [n], in the order of the split's shards."""
    require(Path(folder) / "manifest.parquet")
    manifest = pq.ParquetFile(Path(folder) / "manifest.parquet", buffer_size=READ_AHEAD)
    parts = [np.empty(0, np.int32)]
    for rows in manifest.iter_batches(ROWS_AT_A_TIME, columns=["split", "label", "reason"]):
        kept = pc.and_(pc.equal(rows["split"], split), pc.is_null(rows["reason"]))
        parts.append(rows["label"].filter(kept).to_numpy(zero_copy_only=False).astype(np.int32))
    return np.concatenate(parts)


def read_origins(folder: str | Path, split: str, positions: np.ndarray) -> list[str]:
    """The paths inside the data set of the images at these positions of the split's shards."""
    path = Path(folder) / "manifest.parquet"
    require(path)
    origins, first = np.empty(len(positions), object), 0
    for rows in pq.ParquetFile(path).iter_batches(ROWS_AT_A_TIME, columns=["split", "source", "reason"]):
        kept = rows["source"].filter(pc.and_(pc.equal(rows["split"], split), pc.is_null(rows["reason"])))
        here = np.flatnonzero((positions >= first) & (positions < first + len(kept)))
        origins[here] = kept.take(pa.array(positions[here] - first, pa.int64())).to_pylist()
        first += len(kept)
    return origins.tolist()


def image_shape(folder: str | Path) -> tuple[int, int, int]:
    """Height, width and channels of the images of a data set."""
    return open_shards(folder, "train")[0].shape[1:]


def read_classes(folder: str | Path) -> list[str]:
    """The class names, in the order of the labels."""
    require(Path(folder) / "classes.json")
    return json.loads((Path(folder) / "classes.json").read_text(encoding="utf-8"))


def check_side(folder: str | Path, network: str, smallest: int) -> None:
    """Raises UserError when the images are smaller than `smallest` px, the least for `network` (as in params.yaml)."""
    side = open_shards(folder, "train")[0].shape[1]
    if side < smallest:
        raise UserError(
            f"images are {side}x{side} px, and `{network}` needs at least {smallest}x{smallest}: "
            f"set `ingest.image_size` to {smallest} or more"
        )


def digest(folder: str | Path, sha256: Callable[[Path], str] | None = None) -> str:
    """sha256 over the names and bytes of all files below `folder`: equal data, equal digest. `sha256` returns the hash
    of a file where it is known already."""
    total = hashlib.sha256()
    for path in files_below(folder):
        content = sha256(path) if sha256 else file_digest(path)
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def files_below(folder: str | Path) -> list[Path]:
    """All files below `folder`, sorted."""
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def file_digest(path: str | Path) -> str:
    """sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
