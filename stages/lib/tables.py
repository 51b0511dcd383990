"""The data set as tables to state expectations about: a row per file, image, class, split and shard."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from stages.lib.dataset import SCHEMA, SPLITS, read_classes, shard_paths
from stages.lib.terminal import UserError

# The columns that tell a person which row of a table is meant.
NAMES = {
    "files": ["source", "reason"],
    "images": ["source"],
    "classes": ["class"],
    "splits": ["split"],
    "shards": ["file"],
}


def read_tables(folder: str | Path, expected_classes: Sequence[str] | None = None) -> dict[str, pd.DataFrame]:
    """Returns the tables `files`, `images`, `classes`, `splits` and `shards` of the data set in `folder`.

    Args:
        folder: the data set, as `stages.lib.dataset` describes it.
        expected_classes: the names that the classes should have; None takes those of classes.json.

    Raises UserError when the manifest is missing or is not one.
    """
    path = Path(folder) / "manifest.parquet"
    if not path.exists():
        raise UserError(f"{path} not found: run `dvc repro` from the start, or `python -m stages.ingest`")
    manifest = pq.read_table(path)
    if manifest.schema.names != SCHEMA.names:
        raise UserError(
            f"{path} has the columns {', '.join(manifest.schema.names)}; expected {', '.join(SCHEMA.names)}: "
            "run `python -m stages.ingest` again"
        )
    classes, shards = read_classes(folder), _shards(folder)
    files = _files(manifest.to_pandas())
    images = _images(files, classes)
    return {
        "files": files[["source", "reason", "outcome", "labels_of_its_pixels"]],
        "images": images[["source", "label", "class", "class_of_label", "split", "std"]],
        "classes": _classes(images, classes if expected_classes is None else expected_classes),
        "splits": _splits(images, shards),
        "shards": shards,
    }


def _files(manifest: pd.DataFrame) -> pd.DataFrame:
    """One row per file of a class, with what became of it, and the number of classes that its pixels are found under.

    Files that belong to no class, such as a README beside the images, are not counted for or against the data.
    """
    manifest = manifest[manifest["label"].notna()]
    reason = manifest["reason"].fillna("")
    outcomes = [reason == "", reason.str.startswith("duplicate of")]
    labels = manifest.groupby("sha256")["label"].nunique()
    return manifest.assign(
        outcome=np.select(outcomes, ["accepted", "duplicate"], "rejected"),
        labels_of_its_pixels=manifest["sha256"].map(labels).fillna(1).astype(int),
    )


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


def _shards(folder: str | Path) -> pd.DataFrame:
    """One row per shard, from its header alone; the shape of an image is written 28x28x1."""
    rows = []
    for split in SPLITS:
        for path in shard_paths(folder, split):
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
                rows.append((path.name, split, len(array), str(array.dtype), "x".join(map(str, array.shape[1:]))))
            except (ValueError, OSError, EOFError):  # cut off, or no array at all
                rows.append((path.name, split, 0, "unreadable", "unreadable"))
    return pd.DataFrame(rows, columns=["file", "split", "images", "dtype", "shape"])
