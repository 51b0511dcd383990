"""Changes of the images between two states of the data set, from their manifests."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from ops.pages.document import Block, Code, Emphasis, Paragraph, Picture, Section, Strong, Table, Text
from stages.core.dataset import open_shards, pick
from stages.drawing.grids import image_grid
from stages.ingestion.manifest import kind_of

DATA = Path("data/ingest")
MANIFEST = "data/ingest/manifest.parquet"
SHOWN_CLASSES, SHOWN_IMAGES, SHOWN_FILES, OPEN_FILES = 20, 24, 200, 10
COLUMNS, TILE = 6, 112  # of a picture: thumbnails per row; thumbnail size in px
COUNTS = ("added", "removed", "relabelled to it", "relabelled away", "moved between splits")


class Changes(NamedTuple):
    """The differences between two manifests. The hash of its pixels identifies an image."""

    counts: pd.DataFrame  # index: class; columns: images at base, now, and COUNTS
    added: pd.DataFrame  # accepted now but not at base: sha256, class, split, source
    removed: pd.DataFrame  # accepted at base but not now, likewise
    relabelled: pd.DataFrame  # sha256, class, class_base, split, source
    moved: pd.DataFrame  # sha256, class, split, split_base, source
    rejected: pd.DataFrame  # left out now but not at base: sha256 (or None), class, source, reason

    @property
    def any(self) -> bool:
        return any(len(rows) for rows in self[1:])

    def sentence(self) -> str:
        """The changes for the headline, with the class when there is only one; empty when nothing changed."""
        parts = [
            f"{len(rows):,} {verb}"
            for rows, verb in ((self.added, "added"), (self.removed, "removed"), (self.relabelled, "relabelled"))
            if len(rows)
        ]
        if not parts:
            if len(self.moved):
                return f"{_images(len(self.moved))} moved between splits"
            files = "file" if len(self.rejected) == 1 else "files"
            return f"{len(self.rejected):,} more {files} left out" if len(self.rejected) else ""
        touched = [
            *self.added["class"], *self.removed["class"], *self.relabelled["class"], *self.relabelled["class_base"]
        ]  # fmt: skip
        classes = sorted({*touched})
        where = f"class {classes[0]}" if len(classes) == 1 else f"{len(classes):,} classes"
        first, *rest = parts
        number, verb = first.split(" ")
        noun = "image" if number == "1" else "images"
        return f"{number} {noun} {verb}" + "".join(f", {part}" for part in rest) + f" in {where}"


def read_manifest(path: Path) -> pd.DataFrame:
    """The manifest with a column `position`: the index of an accepted image in the shards of its split."""
    manifest = pq.read_table(path, columns=["source", "class", "split", "sha256", "reason"]).to_pandas()
    accepted = manifest[manifest["reason"].isna()]
    return manifest.assign(position=accepted.groupby("split").cumcount()).astype({"position": "Int64"})


def changes(base: pd.DataFrame, now: pd.DataFrame) -> Changes:
    """The differences between two manifests from `read_manifest`."""
    before, after = (m[m["reason"].isna()].drop_duplicates("sha256") for m in (base, now))
    both = after.merge(before[["sha256", "class", "split"]], on="sha256", suffixes=("", "_base"))
    added = after[~after["sha256"].isin(before["sha256"])]
    removed = before[~before["sha256"].isin(after["sha256"])]
    relabelled = both[both["class"] != both["class_base"]]
    moved = both[both["split"] != both["split_base"]]
    left_out = now[now["reason"].notna()]
    left_out_before = base[base["reason"].notna()]
    rejected = left_out[~left_out["source"].isin(left_out_before["source"])]
    columns = {
        "base": before["class"],
        "this": after["class"],
        "added": added["class"],
        "removed": removed["class"],
        "relabelled to it": relabelled["class"],
        "relabelled away": relabelled["class_base"],
        "moved between splits": moved["class"],
    }
    counts = pd.DataFrame({name: classes.value_counts() for name, classes in columns.items()}).fillna(0).astype(int)
    return Changes(counts, added, removed, relabelled, moved, rejected)


def section(found: Changes, now: pd.DataFrame, folder: Path, with_rejected: bool = True) -> Section | None:
    """The section of the report; writes its pictures to `folder`. None when nothing changed."""
    if not found.any:
        return None
    blocks: list[Block] = [_counts_table(found.counts)] if any(map(len, found[1:5])) else []
    if len(found.added):
        shown = _some_of_each_class(found.added)
        shown_count = "" if len(shown) == len(found.added) else f"{len(shown)} of "
        write_thumbnails(shown, shown["class"], folder / "added.png")
        blocks.append(Picture("added.png", f"{shown_count}{_images(len(found.added))} added, with their classes"))
    if len(found.relabelled):
        shown = _some_of_each_class(found.relabelled)
        captions = [f"{a} > {b}" for a, b in zip(shown["class_base"], shown["class"], strict=True)]
        write_thumbnails(shown, captions, folder / "relabelled.png")
        shown_count = "" if len(shown) == len(found.relabelled) else f"{len(shown)} of "
        blocks.append(Picture("relabelled.png", f"{shown_count}{_images(len(found.relabelled))} relabelled: old > new"))
    if len(found.rejected) and with_rejected:
        blocks += rejected_blocks(found.rejected, now, folder)
    return Section("Data", blocks) if blocks else None


def rejected_blocks(rejected: pd.DataFrame, now: pd.DataFrame, folder: Path) -> list[Block]:
    """The files left out: a table of reasons, and pictures of the files whose pixels are in the data set as well."""
    files = "1 file was" if len(rejected) == 1 else f"{len(rejected):,} files were"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(map(kind_of, rejected["reason"])).most_common())
    blocks: list[Block] = [Paragraph([Strong("Left out:"), f" {files} not included in the data set ({kinds})."])]
    rows: list[list[Text]] = [
        [Code(source), "" if pd.isna(name) else name, reason]
        for source, name, reason in rejected[["source", "class", "reason"]].head(SHOWN_FILES).itertuples(index=False)
    ]
    folded = "files and reasons" if len(rejected) > OPEN_FILES else ""
    blocks.append(Table(("file", "class", "reason"), rows, "lll", folded))
    if len(rejected) > SHOWN_FILES:
        blocks.append(Paragraph(Emphasis(f"{len(rejected) - SHOWN_FILES:,} more are in {MANIFEST}")))
    with_pixels = rejected[["sha256", "source"]].merge(
        now[now["reason"].isna()][["sha256", "split", "position"]], on="sha256"
    )
    if len(with_pixels):
        shown = with_pixels.head(SHOWN_IMAGES)
        captions = [source.rpartition("/")[2] for source in shown["source"]]
        write_thumbnails(shown, captions, folder / "rejected.png")
        blocks.append(Picture("rejected.png", "Files left out that can be decoded (duplicates), with their names"))
    return blocks


def write_thumbnails(rows: pd.DataFrame, captions: Sequence[str], path: Path) -> None:
    """Draws the images of the present data set at `rows` (columns split and position)."""
    rows = rows.reset_index(drop=True)
    images: dict[int, np.ndarray] = {}
    for split, part in rows.groupby("split"):
        images |= dict(zip(part.index, pick(open_shards(DATA, split), part["position"].to_numpy(int)), strict=True))
    ordered = np.stack([images[index] for index in range(len(rows))])
    columns = min(COLUMNS, len(rows))
    image_grid(ordered, path, columns, captions=list(captions), tile=TILE, font_size=12)


def _counts_table(counts: pd.DataFrame) -> Table:
    """The classes with changes, most changes first, and the total."""
    used = [name for name in COUNTS if counts[name].any()]
    changed = counts.assign(changes=counts[list(COUNTS)].sum(axis=1))
    changed = changed[changed["changes"] > 0].sort_values("changes", ascending=False, kind="stable")
    shown, rest = changed.head(SHOWN_CLASSES), changed.iloc[SHOWN_CLASSES:]

    def row(name: Text, values: pd.Series) -> list[Text]:
        signs = {"added": "+", "removed": "-", "relabelled to it": "+", "relabelled away": "-"}
        cells = [f"{signs.get(key, '')}{values[key]:,}" if values[key] else "" for key in used]
        return [name, f"{values['base']:,}", f"{values['this']:,}", *cells]

    rows = [row(str(name), values) for name, values in shown.iterrows()]
    if len(rest):
        rows.append(row(Emphasis(f"and {len(rest):,} more"), rest.sum()))
    rows.append(row(Strong(f"all {len(counts):,} classes"), counts.sum()))
    return Table(("class", "images at base", "now", *used), rows, "lrr" + "r" * len(used))


def _some_of_each_class(rows: pd.DataFrame) -> pd.DataFrame:
    """At most SHOWN_IMAGES rows, spread evenly over the classes, sorted by class."""
    rank = rows.groupby("class").cumcount()
    chosen = rows.assign(rank=rank).sort_values(["rank", "class"], kind="stable").head(SHOWN_IMAGES)
    return chosen.sort_values(["class", "rank"], kind="stable")


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"
