"""Brings a data set to uint8 arrays: decodes, resizes, leaves out duplicates and splits by content.

Reads  data/raw/${ingest.source}: a card, a folder or an archive of images
Writes data/ingest/: shards per split, manifest.parquet, classes.json (see stages/lib/dataset.py) and preview.png
"""

import json
from collections import Counter
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.lib import terminal, tracking
from stages.lib.dataset import SPLITS, ShardWriter, digest, open_shards
from stages.lib.decode import decode_chunk
from stages.lib.duplicates import FirstWith
from stages.lib.items import Items
from stages.lib.layout import Source
from stages.lib.manifest import ManifestWriter
from stages.lib.outputs import whole_folder
from stages.lib.params import Params, load_params
from stages.lib.preview import write_preview
from stages.lib.sources import open_source
from stages.lib.splits import Splitter
from stages.lib.survey import Survey, limited, survey
from stages.lib.terminal import UserError
from stages.lib.workers import ordered_map

RAW, OUTPUT = Path("data/raw"), Path("data/ingest")
SMALL = 3000  # images: decoded before worker processes would have started


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

    Returns what was counted of the files, accepted or not. Raises UserError when too many cannot be decoded, a class
    is left without train images, or a split without any.
    """
    items = limited(source.items, params.limit_per_class).in_processing_order()
    plan = survey(items, params.image_size or source.image_size, params.channels, params.fit)
    splitter = Splitter(items.splits_brought(), params.test_fraction, params.val_fraction)
    manifest = None
    with suppress(ColourAmongGrey):
        manifest = write_shards(items, source.classes, plan, splitter, params.shard_mib, folder, workers)
    if manifest is None:
        plan = plan._replace(target=plan.target._replace(channels=3), maybe_grey=False)
        manifest = write_shards(items, source.classes, plan, splitter, params.shard_mib, folder, workers)
    check(manifest, source.classes, params)
    paths, reasons = ([*column] for column in zip(*source.left_out, strict=True)) if source.left_out else ([], [])
    manifest.append({"source": paths, "reason": reasons})
    manifest.close()
    return manifest


class ColourAmongGrey(Exception):
    """The survey saw grey images only, and there are others."""


def write_shards(
    items: Items,
    classes: list[str],
    plan: Survey,
    splitter: Splitter,
    shard_mib: float,
    folder: Path,
    workers: int | None = None,
) -> ManifestWriter:
    """Appends the accepted images to the shards of their splits, and returns the manifest of `items`, to be closed."""
    for old in folder.glob("*.npy"):
        old.unlink()
    first_with, manifest = FirstWith(), ManifestWriter(folder)
    starts = range(0, len(items), plan.chunk)
    payloads = (items[start : start + plan.chunk].payloads() for start in starts)
    results = ordered_map(partial(decode_chunk, target=plan.target), payloads, workers if len(items) > SMALL else 1)
    with ExitStack() as opened:
        writers = {split: opened.enter_context(closing(ShardWriter(folder, split, shard_mib))) for split in SPLITS}
        opened.enter_context(closing(results))
        bar = opened.enter_context(terminal.Progress("decode", len(items), "images"))
        for start, (images, facts) in zip(starts, results, strict=True):
            if plan.maybe_grey and any(facts.colour):
                raise ColourAmongGrey
            chunk = items[start : start + plan.chunk]
            sources, labels, splits = chunk.sources(), chunk.labels.tolist(), chunk.splits()
            accepted: dict[str, list[int]] = {split: [] for split in SPLITS}
            decoded = 0
            firsts = first_with.of(facts.sha256, start)
            repeated = sorted({first for index, first in enumerate(firsts) if first != start + index})
            originals = dict(zip(repeated, items.take(repeated), strict=True))
            for index, (sha256, first) in enumerate(zip(facts.sha256, firsts, strict=True)):
                if sha256 is None:
                    continue
                plan.check_size(sources[index], facts.width[index], facts.height[index])
                splits[index] = split = splitter.assign(splits[index], sha256)
                if first == start + index:
                    accepted[split].append(decoded)
                else:
                    other = originals[first]
                    of_class = f" (class {classes[other.label]})" if other.label != labels[index] else ""
                    facts.reason[index] = f"duplicate of {other.source}{of_class}"
                decoded += 1
            for split, positions in accepted.items():
                writers[split].append(images[positions])
            columns = {
                "source": sources,
                "label": labels,
                "class": [classes[label] for label in labels],
                "split": splits,
                "sha256": [sha256 and sha256.hex() for sha256 in facts.sha256],
                **{name: getattr(facts, name) for name in ("width", "height", "mode", "mean", "std", "reason")},
            }
            manifest.append(columns)
            bar.advance(len(chunk))
    return manifest


def check(manifest: ManifestWriter, classes: list[str], params: IngestParams) -> None:
    """Raises UserError when too many images cannot be decoded, a class has no train images, or a split has none."""
    bad, count = manifest.undecodable, manifest.accepted
    if bad > params.max_bad_fraction * manifest.rows:
        more = f"; and {bad - len(manifest.examples)} more" if bad > len(manifest.examples) else ""
        raise UserError(
            f"{bad} of {manifest.rows} images cannot be decoded, and ingest.max_bad_fraction allows "
            f"{params.max_bad_fraction:.2%}: {'; '.join(manifest.examples)}{more}"
        )
    for name in classes:
        if not count[name, "train"]:
            elsewhere = count[name, "val"] + count[name, "test"]
            rejected = manifest.left_out[name]
            also = f", {rejected} left out as duplicates or undecodable" if rejected else ""
            raise UserError(
                f"class `{name}` is left without train images ({elsewhere} in val and test{also}): add images of it, "
                f"or lower ingest.val_fraction and ingest.test_fraction"
            )
    for split, fraction in (("val", params.val_fraction), ("test", params.test_fraction)):
        if not any(count[name, split] for name in classes):
            raise UserError(
                f"none of the {count.total()} images is in the {split} split: raise ingest.{split}_fraction, which is "
                f"{fraction:g}, or add images"
            )


def main() -> None:
    params = load_params(IngestParams, "ingest")
    with tracking.stage_run("ingest", params) as run:
        with open_source(RAW / params.source) as source, whole_folder(OUTPUT) as folder:
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
    terminal.say(
        f"ingest: {counts.total():,} images of {len(source.classes)} classes, {shape}: "
        + ", ".join(f"{split} {counts[split]:,}" for split in SPLITS),
        f"left out: {reasons}" + (f"; see `reason` in {OUTPUT}/manifest.parquet" if left_out else ""),
        f"look at {OUTPUT}/preview.png",
    )


if __name__ == "__main__":
    terminal.run_stage(main)
