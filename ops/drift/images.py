"""The compared images: converted to the champion's input format, embedded in its reference space, and shown.

Reads  data/ingest, or a folder, archive or card of images as ingest does
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from ops.drift.findings import DriftParams, Embedded
from ops.drift.measures import Unusual
from ops.drift.profile import DATA, Observed, Profile, balanced, embed, labels_of
from stages.core.dataset import image_shape
from stages.core.params import load_params
from stages.ingest import IngestParams
from stages.ingestion.shards import write_shards
from stages.ingestion.sources import open_source
from stages.ingestion.splits import Splitter
from stages.ingestion.survey import limited, survey
from stages.reference_network.features import ReferenceSpace
from stages.running.parallel import available_cores
from stages.running.terminal import UserError

SHOWN = 12  # most unusual images, and as many typical ones


class Gallery(NamedTuple):
    """New images to be shown: first the most unusual ones, then typical ones."""

    images: np.ndarray  # uint8 [k, height, width, channels]
    classes: list[str]
    sources: list[str]
    scores: list[float]
    unusual: int  # number of unusual images


def embed_new(profile: Profile, observed: Observed, new: np.ndarray, params: DriftParams) -> Embedded | None:
    """At most `max_images` of the new images in the champion's reference space; None when there are none. Known images
    are excluded: the network was trained on most of them, and the others are in the profile."""
    if not new.any():
        return None
    labels, candidates = labels_of(observed, profile), np.flatnonzero(new)
    random = np.random.default_rng(params.seed)
    chosen = candidates[balanced(labels[candidates], params.max_images, random)]
    return Embedded(chosen, labels[chosen], embed(ReferenceSpace(profile.network), observed, chosen))


@contextmanager
def ingested(data: Path | None, profile: Profile) -> Iterator[tuple[Path, list[str]]]:
    """A folder in ingest's format, with images of the champion's shape, and the undecodable files with reasons."""
    if data is None:
        shape = image_shape(DATA) if DATA.exists() else profile.shape
        if shape != profile.shape:
            found, expected = ("x".join(map(str, s)) for s in (shape, profile.shape))
            raise UserError(
                f"the images in {DATA} are {found}, the champion's are {expected}: name the original images, "
                "`uv run visionloop drift data/raw/NAME`, which are then resized to fit"
            )
        yield DATA, []
        return
    if not data.exists():
        raise UserError(
            f"{data} not found: expected a folder or archive of images with a subfolder per class; "
            "`dvc pull` fetches data that DVC tracks"
        )
    params = load_params(IngestParams, "ingest")
    with open_source(data) as source, tempfile.TemporaryDirectory(prefix="drift-") as name:
        folder, size, channels = Path(name), profile.shape[0], profile.shape[2]
        items = limited(source.items, None).in_processing_order()
        plan = survey(items, size, 3 if channels == 3 else 1, params.fit)
        # No splits: images that the data set itself does not assign to test or val count as train.
        splitter = Splitter({"train", "val", "test"}, 0.0, 0.0)
        cores = available_cores()
        write_shards(items, source.classes, plan, splitter, params.shard_mib, folder, cores).close()
        (folder / "classes.json").write_text(json.dumps(source.classes), encoding="utf-8")
        rows = pq.read_table(folder / "manifest.parquet", columns=["source", "sha256", "reason"]).to_pylist()
        bad = [f"{row['source']}: {row['reason']}" for row in rows if row["sha256"] is None]
        if len(bad) == len(rows):
            raise UserError(f"none of the {len(rows)} images in {data} can be decoded; the first: {bad[0]}")
        yield folder, bad


def gallery(profile: Profile, observed: Observed, embedded: Embedded, unusual: Unusual) -> Gallery:
    """The most unusual of the new images, and the most typical ones."""
    order = np.argsort(-unusual.scores, kind="stable")
    typical = np.argsort(np.abs(unusual.scores - 1.0), kind="stable")
    shown = np.concatenate([order[:SHOWN], typical[: min(SHOWN, len(order))]])
    positions = embedded.positions[shown]
    return Gallery(
        observed.images(positions),
        [observed.classes[label] for label in observed.labels[positions]],
        observed.sources[positions].tolist(),
        unusual.scores[shown].tolist(),
        len(order[:SHOWN]),
    )
