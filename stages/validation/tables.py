"""The data set as tables to state expectations about: a row per file, image, class, split and shard."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.core.dataset import (
    READ_AHEAD,
    ROWS_AT_A_TIME,
    SCHEMA,
    SPLITS,
    digest,
    file_digest,
    files_below,
    read_classes,
    shard_paths,
)
from stages.running.parallel import ordered_map
from stages.running.terminal import Progress, UserError

SMALL = 2**28  # bytes: so few are read without workers
PIXELS = ("pixels_0", "pixels_1")  # columns that hold the first bytes of the sha256

# The columns that identify a row of a table to the user.
NAMES = {
    "files": ["source", "reason"],
    "images": ["source"],
    "classes": ["class"],
    "splits": ["split"],
    "shards": ["file"],
}


def read_data_set(
    folder: str | Path, expected_classes: Sequence[str] | None = None, workers: int | None = None
) -> tuple[dict[str, pd.DataFrame], str]:
    """Returns the tables `files`, `images`, `classes`, `splits` and `shards` of the data set in `folder`, and its
    digest (see `stages.core.dataset`); they are the same for any number of workers (see ordered_map).

    Args:
        folder: the data set, as `stages.core.dataset` describes it.
        expected_classes: the names that the classes should have; None takes those of classes.json.
        workers: see ordered_map; a small data set is read without any.

    Raises UserError when the manifest is missing or has other columns.
    """
    path = Path(folder) / "manifest.parquet"
    if not path.exists():
        raise UserError(f"{path} not found: run `dvc repro` from the start, or `python -m stages.ingest`")
    manifest = pq.ParquetFile(path)
    if manifest.schema_arrow.names != SCHEMA.names:
        raise UserError(
            f"{path} has the columns {', '.join(manifest.schema_arrow.names)}; expected {', '.join(SCHEMA.names)}: "
            "run `python -m stages.ingest` again"
        )
    classes, files = read_classes(folder), files_below(folder)
    tasks = [Piece(str(file.absolute())) for file in files]
    sizes = [manifest.metadata.row_group(group).num_rows for group in range(manifest.num_row_groups)]
    tasks += [Piece(str(path.absolute()), group, sum(sizes[:group])) for group in range(len(sizes))]
    small = sum(file.stat().st_size for file in files) <= SMALL
    with (
        closing(ordered_map(read_piece, tasks, 1 if small else workers, threads=True)) as pieces,
        Progress("read", len(tasks), "pieces") as bar,
    ):
        facts, groups = dict[Path, FileFacts](), list[pa.Table]()
        for file in files:
            facts[file] = next(pieces)
            bar.advance()
        for group in pieces:
            groups.append(group)
            bar.advance()
    shards = _shards(folder, facts)
    rows = _files(pa.concat_tables(groups))
    images = _images(rows, classes)
    tables = {
        "files": rows[["source", "reason", "outcome", "labels_of_its_pixels"]],
        "images": images[["source", "label", "class", "class_of_label", "split", "std"]],
        "classes": _classes(images, classes if expected_classes is None else expected_classes),
        "splits": _splits(images, shards),
        "shards": shards,
    }
    return tables, digest(folder, lambda file: facts[file].sha256)


class Piece(NamedTuple):
    """The input of one task: a file, or a group of rows of the manifest."""

    path: str  # absolute
    group: int | None = None
    first: int = 0  # number of the group's first row


class FileFacts(NamedTuple):
    """The facts about a file. images, dtype and shape (28x28x1) are those of a shard; for another file, or a damaged
    shard, they are 0 and `unreadable`."""

    sha256: str
    images: int
    dtype: str
    shape: str


def read_piece(piece: Piece) -> FileFacts | pa.Table:
    """The facts about a file, or the rows of the manifest that belong to a class, with the outcome of each file."""
    if piece.group is None:
        return FileFacts(file_digest(piece.path), *_header(piece.path))
    columns = ["source", "label", "class", "split", "sha256", "mean", "std", "reason"]
    manifest = pq.ParquetFile(piece.path, buffer_size=READ_AHEAD, pre_buffer=False)
    first, parts = piece.first, []
    for batch in manifest.iter_batches(ROWS_AT_A_TIME, row_groups=[piece.group], columns=columns):
        rows = pa.Table.from_batches([batch]).append_column("row", pa.array(np.arange(len(batch)) + first))
        first += len(batch)
        # Files without a class, such as a README next to the images, do not count for or against the data.
        rows = rows.filter(pc.is_valid(rows["label"]))
        # Sixteen bytes are enough to distinguish images, see stages.ingestion.duplicates.
        start = b"".join(bytes.fromhex(sha256[:32]) if sha256 else bytes(16) for sha256 in rows["sha256"].to_pylist())
        for name, word in zip(PIXELS, np.frombuffer(start, np.int64).reshape(-1, 2).T, strict=True):
            rows = rows.append_column(name, pa.array(word, mask=rows["sha256"].is_null().to_numpy()))
        rejected = pc.if_else(pc.starts_with(rows["reason"], "duplicate of"), "duplicate", "rejected")
        outcome = pc.if_else(pc.fill_null(pc.equal(rows["reason"], ""), True), "accepted", rejected)
        parts.append(rows.drop_columns("sha256").append_column("outcome", outcome))
    return pa.concat_tables(parts)


def _files(rows: pa.Table) -> pd.DataFrame:
    """One row per file of a class, with the number of classes in which its pixels occur."""
    labels = _labels_of_pixels(rows)
    files = rows.drop_columns(list(PIXELS)).to_pandas().set_index("row").rename_axis(None)
    files["labels_of_its_pixels"] = labels
    return files


def _labels_of_pixels(rows: pa.Table) -> np.ndarray:
    """For each row the number of different labels of the rows with the same pixels; 1 for an undecodable image."""
    known = np.flatnonzero(pc.is_valid(rows[PIXELS[0]]).to_numpy())
    label, *words = (pc.fill_null(rows[name], 0).to_numpy()[known] for name in ("label", *PIXELS))
    order = np.lexsort((label, *words))
    new_pixels = np.ones(len(order), bool)  # the first row with these pixels
    new_pixels[1:] = np.any([np.diff(word[order]) != 0 for word in words], axis=0)
    new_label = new_pixels.copy()  # the first row with these pixels and this label
    new_label[1:] |= np.diff(label[order]) != 0
    group = np.cumsum(new_pixels) - 1
    counts = np.ones(len(rows), np.int64)
    counts[known[order]] = np.bincount(group, new_label).astype(np.int64)[group]
    return counts


def _images(files: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """One row per accepted image, with the class name that its label stands for."""
    images = files[files["outcome"] == "accepted"].astype({"label": int})
    return images.assign(class_of_label=images["label"].map(dict(enumerate(classes))).fillna("none"))


def _classes(images: pd.DataFrame, expected: Sequence[str]) -> pd.DataFrame:
    """One row per class that is expected or found."""
    found = images["class"].unique()
    rows = pd.DataFrame({"class": sorted({*expected, *found})})
    rows["status"] = [
        "not expected" if name not in expected else "as expected" if name in found else "missing"
        for name in rows["class"]
    ]
    for split in SPLITS:
        count = images[images["split"] == split]["class"].value_counts()
        rows[f"{split}_images"] = rows["class"].map(count).fillna(0).astype(int)
    rows["imbalance"] = rows["train_images"].max() / rows["train_images"].clip(lower=1)
    rows["brightness"] = rows["class"].map(images.groupby("class")["mean"].mean()).astype(float)
    rows["brightness_gap"] = (rows["brightness"] - rows["brightness"].median()).abs()
    return rows


def _splits(images: pd.DataFrame, shards: pd.DataFrame) -> pd.DataFrame:
    """One row per split, with the number of its images according to the manifest and to the shards."""
    rows = pd.DataFrame({"split": SPLITS})
    rows["images_in_manifest"] = rows["split"].map(images["split"].value_counts()).fillna(0).astype(int)
    rows["images_in_shards"] = rows["split"].map(shards.groupby("split")["images"].sum()).fillna(0).astype(int)
    return rows


def _shards(folder: str | Path, facts: Mapping[Path, FileFacts]) -> pd.DataFrame:
    """One row per shard."""
    rows = [(path.name, split, *facts[path][1:]) for split in SPLITS for path in shard_paths(folder, split)]
    return pd.DataFrame(rows, columns=["file", "split", "images", "dtype", "shape"])


def _header(path: str) -> tuple[int, str, str]:
    """Images, dtype and shape of a shard, from its header only."""
    if not path.endswith(".npy"):
        return 0, "unreadable", "unreadable"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return len(array), str(array.dtype), "x".join(map(str, array.shape[1:]))
    except (ValueError, OSError, EOFError):  # cut off, or no array at all
        return 0, "unreadable", "unreadable"
