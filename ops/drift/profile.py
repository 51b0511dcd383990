"""The profile of a champion's data: a summary that is stored with the champion, to compare later data with.

Reads  data/ingest (all splits), data/reference/model.keras
Writes, into the caller's folder (under 10 MB for 70,000 images, equal bytes for equal inputs, no pickles):

    profile.json      the class names, the shape of the images, the names of the statistics
    histograms.npy    uint32 [classes, statistics, bins + 2]: counts of each class's images by each statistic
    edges.npy         float64 [statistics, bins + 1]: the bin edges; the first and last bin are open
    features.npy      float32 [m, d]: a sample of images in the reference space, balanced over the classes
    labels.npy        int32 [m]: their classes
    hashes.npy        uint64 [n], sorted: the first 8 bytes of the sha256 of every image's pixels
    model.keras       the reference network, which embeds new images in the space of `features`

Features of images that a network was trained on differ from those of other images. The reference network was trained on
the train images, so the sample consists of val and test images, and a reader excludes known images by `hashes`.
"""

from __future__ import annotations

import json
import shutil
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from stages.core.dataset import SPLITS, image_shape, pick, read_classes, require, shard_paths
from stages.reference_network.features import ReferenceSpace
from stages.running.terminal import Progress, UserError

DATA, REFERENCE = Path("data/ingest"), Path("data/reference/model.keras")
VERSION = 1  # of the format; other versions are refused
BINS = 99  # odd, so that a statistic with one value for all images lies inside a bin and not on an edge
MAX_FEATURES = 3000
PIXELS_AT_A_TIME = 2**23
IMAGES_AT_A_TIME = 1024  # in the network
EDGE = 32  # grey levels of difference to a neighbour from which a pixel counts as an edge

STATISTICS = {  # of images as stored, unless stated otherwise
    "brightness": "mean grey, 0 to 255",
    "contrast": "standard deviation of the greys",
    "sharpness": "log10 of the Laplacian's variance over the greys'",
    "edges": "share of pixels on an edge",
    "size": "of the original: root of its area, px",
    "saturation": "mean (max - min) / max of the channels",
    "warmth": "mean red minus mean blue",
}
OF_COLOUR = ("saturation", "warmth")


@dataclass(frozen=True)
class Profile:
    """A profile in memory; the attributes are the files, see above."""

    classes: list[str]
    shape: tuple[int, int, int]
    statistics: list[str]
    histograms: np.ndarray
    edges: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    hashes: np.ndarray
    network: Path

    @property
    def counts(self) -> np.ndarray:
        """Images of each class, int64 [classes]."""
        return self.histograms[:, 0].sum(axis=1, dtype=np.int64)


@dataclass(frozen=True)
class Observed:
    """The images of an ingest folder, in the order of its shards: train, val, test."""

    folder: Path
    classes: list[str]
    labels: np.ndarray  # int32 [n]
    splits: np.ndarray  # str [n]
    sources: np.ndarray  # str [n], paths inside the data set
    hashes: np.ndarray  # uint64 [n]
    statistics: np.ndarray  # float32 [n, statistics]

    def images(self, positions: np.ndarray) -> np.ndarray:
        """uint8 [k, height, width, channels]."""
        return pick(_open_all(self.folder), positions)


def write_profile(folder: Path) -> None:
    """Writes the profile of data/ingest into `folder`. Raises UserError when the data or the reference is missing."""
    require(DATA, REFERENCE)
    observed = observe(DATA)
    edges = bin_edges(observed.statistics)
    unseen = np.flatnonzero(observed.splits != "train")
    chosen = unseen[balanced(observed.labels[unseen], MAX_FEATURES, np.random.default_rng(0))]
    metadata = {
        "version": VERSION,
        "classes": observed.classes,
        "image_shape": list(image_shape(DATA)),
        "statistics": statistic_names(image_shape(DATA)[2]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.json").write_text(json.dumps(metadata, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    histograms = count(observed.statistics, observed.labels, len(observed.classes), edges)
    np.save(folder / "histograms.npy", histograms.astype(np.uint32))
    np.save(folder / "edges.npy", edges)
    np.save(folder / "features.npy", embed(ReferenceSpace(REFERENCE), observed, chosen))
    np.save(folder / "labels.npy", observed.labels[chosen])
    np.save(folder / "hashes.npy", np.sort(observed.hashes))
    shutil.copyfile(REFERENCE, folder / "model.keras")


def read_profile(folder: Path) -> Profile:
    """Reads a profile of `write_profile`. Raises UserError when it is invalid, or of another version."""
    try:
        metadata = json.loads((folder / "profile.json").read_text(encoding="utf-8"))
        arrays = {
            name: np.load(folder / f"{name}.npy", allow_pickle=False)
            for name in ("histograms", "edges", "features", "labels", "hashes")
        }
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is not a profile ({error}): promote the champion again, which writes one") from None
    if metadata.get("version") != VERSION:
        raise UserError(
            f"the champion's profile has version {metadata.get('version')}, expected {VERSION}: "
            "use the code that it was promoted with, or promote the champion again"
        )
    return Profile(
        metadata["classes"],
        tuple(metadata["image_shape"]),
        metadata["statistics"],
        network=folder / "model.keras",
        **arrays,
    )


def observe(folder: Path) -> Observed:
    """The images in an ingest folder, with their statistics. Raises UserError when there are none."""
    require(folder, folder / "manifest.parquet")
    columns = ["source", "label", "split", "sha256", "width", "height", "reason"]
    table = pq.read_table(folder / "manifest.parquet", columns=columns)
    table = table.filter(table["reason"].is_null())
    splits = np.array(table["split"].to_pylist(), dtype=str)
    order = np.argsort([SPLITS.index(split) for split in splits], kind="stable")
    table = table.take(order)
    shards = _open_all(folder)
    if not sum(map(len, shards)):
        raise UserError(f"{folder} holds no images: run `dvc repro`")
    if sum(map(len, shards)) != len(table):
        raise UserError(
            f"{folder} holds {sum(map(len, shards))} images, but its manifest lists {len(table)}: run `dvc repro`"
        )
    size = np.sqrt(table["width"].to_numpy().astype(np.float64) * table["height"].to_numpy())
    return Observed(
        folder,
        read_classes(folder),
        table["label"].to_numpy().astype(np.int32),
        splits[order],
        np.array(table["source"].to_pylist(), dtype=str),
        np.array([int(sha256[:16], 16) for sha256 in table["sha256"].to_pylist()], np.uint64),
        all_statistics(shards, size.astype(np.float32)),
    )


def labels_of(observed: Observed, profile: Profile) -> np.ndarray:
    """The label [n] of each image's class in the profile; classes that the profile lacks come after its classes."""
    names = [*profile.classes, *(name for name in observed.classes if name not in profile.classes)]
    return np.array([names.index(name) for name in observed.classes])[observed.labels]


def statistic_names(channels: int) -> list[str]:
    """The ordered statistics of images with this number of channels."""
    return [name for name in STATISTICS if channels == 3 or name not in OF_COLOUR]


def image_statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    """The statistics of uint8 images [n, height, width, 1 or 3] except `size`, float32 [n] each.

    The variance of the Laplacian measures focus (Pech-Pacheco et al. 2000); divided by the variance of the greys, it is
    independent of contrast. The quotient is at least 1e-6, which is also the value of a blank image.
    """
    pixels = images.astype(np.float32)
    grey = pixels[..., 0] if images.shape[3] == 1 else pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    axes = (1, 2)
    variance = grey.var(axis=axes)
    inner = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
    down, right = np.abs(np.diff(grey, axis=1))[:, :, :-1], np.abs(np.diff(grey, axis=2))[:, :-1]
    found = {
        "brightness": grey.mean(axis=axes),
        "contrast": np.sqrt(variance),
        "sharpness": np.log10(np.maximum(laplacian.var(axis=axes) / np.maximum(variance, 1e-3), 1e-6)),
        "edges": (np.maximum(down, right) >= EDGE).mean(axis=axes, dtype=np.float32),
    }
    if images.shape[3] == 3:
        high, low = pixels.max(axis=3), pixels.min(axis=3)
        found["saturation"] = ((high - low) / np.maximum(high, 1)).mean(axis=axes)
        found["warmth"] = (pixels[..., 0] - pixels[..., 2]).mean(axis=axes)
    return found


def all_statistics(shards: Sequence[np.ndarray], size: np.ndarray) -> np.ndarray:
    """The statistics, float32 [n, statistics], of the images in all shards. size: sizes of the originals [n]."""
    names, start = statistic_names(shards[0].shape[3]), 0
    values = np.empty((len(size), len(names)), np.float32)
    with Progress("image statistics", len(size), "images") as bar:
        for images in _blocks(shards):
            found = image_statistics(images) | {"size": size[start : start + len(images)]}
            values[start : start + len(images)] = np.stack([found[name] for name in names], axis=1)
            start += len(images)
            bar.advance(len(images))
    return values


def _blocks(shards: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    for shard in shards:
        step = max(1, PIXELS_AT_A_TIME // int(np.prod(shard.shape[1:])))
        for start in range(0, len(shard), step):
            yield shard[start : start + step]


def bin_edges(statistics: np.ndarray) -> np.ndarray:
    """Bin edges, float64 [statistics, bins + 1]: bins of equal width over the middle 99% of the values [n, statistics],
    extended by half of this range on either side."""
    low, high = np.quantile(statistics.astype(np.float64), [0.005, 0.995], axis=0)
    margin = np.maximum((high - low) / 2, 0.01 * np.maximum(np.abs(low), 1))
    return np.linspace(low - margin, high + margin, BINS + 1, axis=1)


def count(statistics: np.ndarray, labels: np.ndarray, classes: int, edges: np.ndarray) -> np.ndarray:
    """Counts, int64 [classes, statistics, bins + 2], of values [n, statistics] with labels [n] below `classes`."""
    found = np.empty((classes, len(edges), edges.shape[1] + 1), np.int64)
    for index, row in enumerate(edges):
        cells = labels.astype(np.int64) * found.shape[2] + np.searchsorted(row, statistics[:, index], side="right")
        found[:, index] = np.bincount(cells, minlength=classes * found.shape[2]).reshape(classes, -1)
    return found


def balanced(labels: np.ndarray, limit: int, random: np.random.Generator) -> np.ndarray:
    """Sorted positions of at most `limit` images drawn at random and equally from each class, as far as it has images;
    but at least two of each class, which a comparison needs."""
    counts = np.bincount(labels)
    quota = bisect_right(range(len(labels) + 1), limit, key=lambda each: np.minimum(counts, each).sum()) - 1
    shuffled = random.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[rank < max(2, quota)])


def embed(space: ReferenceSpace, observed: Observed, positions: np.ndarray) -> np.ndarray:
    """Features float32 [k, d] of the images at these positions."""
    parts = range(0, len(positions), IMAGES_AT_A_TIME)
    features = [space(observed.images(positions[start : start + IMAGES_AT_A_TIME]))[0] for start in parts]
    return np.concatenate(features).astype(np.float32)


def _open_all(folder: Path) -> list[np.ndarray]:
    """The shards of all splits as memory maps."""
    paths = [path for split in SPLITS for path in shard_paths(folder, split)]
    return [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
