"""Turns a data set into uint8 arrays: decodes, resizes, leaves out duplicates and splits by content.

Reads  data/raw/${ingest.source}: a card, a folder or an archive of images
Writes data/ingest/: shards per split, manifest.parquet, classes.json (see stages/core/dataset.py) and preview.png
"""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.core.dataset import SPLITS, digest, open_shards
from stages.core.outputs import atomic_folder
from stages.core.params import Params, load_params
from stages.ingestion.checks import check_manifest
from stages.ingestion.class_folders import Source
from stages.ingestion.manifest import ManifestWriter
from stages.ingestion.preview import write_preview
from stages.ingestion.shards import write_shards
from stages.ingestion.sources import open_source
from stages.ingestion.splits import Splitter
from stages.ingestion.survey import limited, survey
from stages.running.terminal import run_stage, say
from stages.running.tracking.record import stage_run

RAW, OUTPUT = Path("data/raw"), Path("data/ingest")


class IngestParams(Params):
    source: Annotated[str, Field(pattern=r"^[^/\\.\x00-\x1f][^/\\\x00-\x1f]*$", max_length=255)]
    image_size: Annotated[int, Field(ge=8, le=1024)] | None
    channels: Literal[1, 3] | None
    fit: Literal["pad", "crop"]
    val_fraction: Annotated[float, Field(ge=0, le=0.5)]
    test_fraction: Annotated[float, Field(ge=0, le=0.5)]
    limit_per_class: Annotated[int, Field(ge=1, le=10**9)] | None
    max_bad_fraction: Annotated[float, Field(ge=0, le=1)]
    shard_mib: Annotated[float, Field(ge=1, le=1024)]

    @model_validator(mode="after")
    def _leaves_train_images(self) -> "IngestParams":
        if self.val_fraction + self.test_fraction > 0.9:
            raise ValueError("val_fraction and test_fraction together must leave at least 0.1 for train")
        return self


def ingest(source: Source, params: IngestParams, folder: Path, workers: int | None = None) -> ManifestWriter:
    """Decodes the images of `source` into shards and a manifest in `folder`; the bytes are the same for any number of
    workers, of this machine or of a cluster (see ordered_map).

    Returns the manifest with its counts of files. Raises UserError when too many cannot be decoded, a class is left
    without train images, or a split without any images.
    """
    items = limited(source.items, params.limit_per_class).in_processing_order()
    plan = survey(items, params.image_size or source.image_size, params.channels, params.fit)
    splitter = Splitter(items.official_splits(), params.test_fraction, params.val_fraction)
    manifest = write_shards(items, source.classes, plan, splitter, params.shard_mib, folder, workers)
    check_manifest(
        manifest,
        source.classes,
        max_bad_fraction=params.max_bad_fraction,
        val_fraction=params.val_fraction,
        test_fraction=params.test_fraction,
    )
    manifest.leave_out(source.left_out)
    manifest.close()
    return manifest


def main() -> None:
    params = load_params(IngestParams, "ingest")
    with stage_run("ingest", params) as run:
        with open_source(RAW / params.source) as source, atomic_folder(OUTPUT) as folder:
            manifest = ingest(source, params, folder)
            classes = json.dumps(source.classes, ensure_ascii=False, indent=1)
            (folder / "classes.json").write_text(classes + "\n", encoding="utf-8")
            write_preview(folder, source.classes)
        counts, left_out = Counter[str](), manifest.reasons
        for (_, split), count in manifest.accepted.items():
            counts[split] += count
        run.metrics({f"{split}_images": counts[split] for split in SPLITS} | {"left_out": left_out.total()})
        run.dataset(params.source, digest(OUTPUT), {"images": counts.total(), "classes": len(source.classes)})
        run.artifact(OUTPUT / "preview.png")
    shape = "x".join(str(n) for n in open_shards(OUTPUT, "train")[0].shape[1:])
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common()) or "nothing"
    say(
        f"ingest: {counts.total():,} images of {len(source.classes)} classes, {shape}: "
        + ", ".join(f"{split} {counts[split]:,}" for split in SPLITS),
        f"left out: {reasons}" + (f"; see `reason` in {OUTPUT}/manifest.parquet" if left_out else ""),
        f"look at {OUTPUT}/preview.png",
    )


if __name__ == "__main__":
    run_stage(main)
