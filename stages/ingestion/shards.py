"""Decodes the images of a data set, and writes the accepted ones to the shards of their splits and one row for each
image to the manifest (see stages.core.dataset)."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import numpy as np

from stages.core.dataset import SPLITS, ShardWriter
from stages.imaging.decode import Facts, decode_chunk
from stages.ingestion.duplicates import DuplicateIndex
from stages.ingestion.items import Items
from stages.ingestion.manifest import ManifestWriter
from stages.ingestion.splits import Splitter
from stages.ingestion.survey import Survey
from stages.running.parallel import ordered_map
from stages.running.terminal import Progress

SMALL = 3000  # images: so few are decoded before worker processes would have started


class UnexpectedColour(Exception):
    """The survey found only grey images, but there are others."""


def write_shards(
    items: Items,
    classes: Sequence[str],
    plan: Survey,
    splitter: Splitter,
    shard_mib: float,
    folder: Path,
    workers: int | None = None,
) -> ManifestWriter:
    """Writes the shards of all splits into `folder`, and returns the manifest of `items`, which the caller closes.

    Of images with the same pixels the first is accepted. When the plan assumes grey images and one is not, it starts
    again in colour. The bytes are the same for any number of workers (see ordered_map). Raises UserError when images
    differ in size and no size is set.
    """
    with suppress(UnexpectedColour):
        return write_as_planned(items, classes, plan, splitter, shard_mib, folder, workers)
    return write_as_planned(items, classes, plan.in_colour(), splitter, shard_mib, folder, workers)


def write_as_planned(
    items: Items,
    classes: Sequence[str],
    plan: Survey,
    splitter: Splitter,
    shard_mib: float,
    folder: Path,
    workers: int | None = None,
) -> ManifestWriter:
    """Does the same as write_shards, but raises UnexpectedColour instead of starting again."""
    for old in folder.glob("*.npy"):
        old.unlink()
    duplicates, manifest = DuplicateIndex(), ManifestWriter(folder)
    with ExitStack() as opened:
        shards = {split: opened.enter_context(closing(ShardWriter(folder, split, shard_mib))) for split in SPLITS}
        chunks = opened.enter_context(closing(_decode(items, plan, workers)))
        bar = opened.enter_context(Progress("decode", len(items), "images"))
        for start, images, facts in chunks:
            if plan.maybe_grey and any(facts.colour):
                raise UnexpectedColour
            chunk = items[start : start + len(facts.sha256)]
            sources, labels = chunk.sources(), chunk.labels.tolist()
            for source, width, height in zip(sources, facts.width, facts.height, strict=True):
                plan.check_size(source, width, height)
            firsts = duplicates.first_occurrences(facts.sha256, start)
            _mark_duplicates(facts.reason, firsts, start, labels, items, classes)
            splits = splitter.assign_all(chunk.splits(), facts.sha256)
            decoded = [index for index, sha256 in enumerate(facts.sha256) if sha256 is not None]  # of `images`
            for split in SPLITS:
                chosen = [k for k, i in enumerate(decoded) if splits[i] == split and facts.reason[i] is None]
                shards[split].append(images[chosen])
            manifest.append(_rows(sources, labels, splits, facts, classes))
            bar.advance(len(chunk))
    return manifest


def _decode(items: Items, plan: Survey, workers: int | None) -> Generator[tuple[int, np.ndarray, Facts]]:
    """Yields for each chunk of the items, in order: the index of its first item, the decodable images, and the facts
    about all items."""
    starts = range(0, len(items), plan.chunk)
    payloads = (items[start : start + plan.chunk].payloads() for start in starts)
    decode = partial(decode_chunk, target=plan.target)
    with closing(ordered_map(decode, payloads, workers if len(items) > SMALL else 1)) as results:
        for start, (images, facts) in zip(starts, results, strict=True):
            yield start, images, facts


def _mark_duplicates(
    reasons: list[str | None],
    firsts: Sequence[int],
    start: int,
    labels: Sequence[int],
    items: Items,
    classes: Sequence[str],
) -> None:
    """Sets the reasons of the items from `start` on whose pixels occurred before, in the items `firsts`."""
    repeated = sorted({first for index, first in enumerate(firsts, start) if first != index})
    originals = dict(zip(repeated, items.take(repeated), strict=True))
    for index, first in enumerate(firsts):
        if first != start + index:
            original = originals[first]
            other_class = f" (class {classes[original.label]})" if original.label != labels[index] else ""
            reasons[index] = f"duplicate of {original.source}{other_class}"


def _rows(
    sources: Sequence[str],
    labels: Sequence[int],
    splits: Sequence[str | None],
    facts: Facts,
    classes: Sequence[str],
) -> dict[str, Sequence]:
    """The columns of the manifest."""
    return {
        "source": sources,
        "label": labels,
        "class": [classes[label] for label in labels],
        "split": splits,
        "sha256": [sha256 and sha256.hex() for sha256 in facts.sha256],
        **{name: getattr(facts, name) for name in ("width", "height", "mode", "mean", "std", "reason")},
    }
