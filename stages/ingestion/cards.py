"""Cards: small YAML files in data/raw that name the source of a data set, and the loaders for the formats they name.

idx      MNIST's format (LeCun), plain or gzipped: files train_images, train_labels, and likewise val and test
cifar    CIFAR's binary version (Krizhevsky 2009), a tar.gz: file archive
archive  a .zip or .tar of images, one folder per class: file archive
digits   the 8x8 digits that come with scikit-learn (Alpaydin and Kaynak 1998)
"""

import gzip
import math
import tarfile
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from stages.ingestion.download import fetch
from stages.running.terminal import UserError

SPLITS = ("test", "val", "train")
Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00-\x1f\x7f]*$")]
ROLES = {  # of the files that each loader takes
    "digits": [],
    "idx": [f"{split}_{content}" for split in SPLITS for content in ("images", "labels")],
    "cifar": ["archive"],
    "archive": ["archive"],
}
MAX_BYTES = 2**20  # of a card


class RemoteFile(BaseModel):
    """A file to download: its address and its expected hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^/]+/.*[^/]$")]
    hash: Annotated[str, StringConstraints(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})$")]


class Card(BaseModel):
    """The contents of a card."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    name: Line
    loader: Literal["digits", "idx", "cifar", "archive"]
    files: dict[str, RemoteFile] = {}
    classes: list[Line] = []  # in the order of the labels; in an archive, folders are classes
    label_bytes: int = Field(1, ge=1, le=2)  # cifar: before each image; the last one is the label
    image_size: int | None = Field(None, ge=8, le=1024)  # px
    homepage: str = ""
    licence: str = ""

    @model_validator(mode="after")
    def _is_complete(self) -> "Card":
        needed = {"digits": set(), "idx": {"train_images", "train_labels"}}.get(self.loader, {"archive"})
        if unknown := set(self.files) - set(ROLES[self.loader]):
            takes = ", ".join(f"files.{role}" for role in ROLES[self.loader]) or "no files"
            raise ValueError(f"files.{min(unknown)} is unknown: loader {self.loader} takes {takes}")
        if missing := needed - set(self.files):
            raise ValueError(f"loader {self.loader} needs files.{min(missing)}")
        for split in SPLITS:
            pair = {f"{split}_images", f"{split}_labels"}
            if len(missing := pair - set(self.files)) == 1:
                raise ValueError(f"files.{min(missing)} is missing: files.{min(pair - missing)} needs it")
        if repeated := [name for name in self.classes if self.classes.count(name) > 1]:
            raise ValueError(f"class `{repeated[0]}` is listed twice in classes")
        if self.loader != "archive" and len(self.classes) < 2:
            raise ValueError("at least two classes are needed")
        return self

    def fetch(self, role: str, entry: str) -> Path:
        """Downloads the file of that role, unless it is cached under `entry`, the name of the entry of data/raw."""
        file = self.files[role]
        return fetch(file.url, file.hash, f"{entry}/{Path(urlsplit(file.url).path).name}")

    def load(self, entry: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Yields (split, images uint8 [n, h, w] or [n, h, w, 3], labels [n]); a split `images` is not an official one.

        Raises UserError when a file does not match the card.
        """
        for split, images, labels in _LOADERS[self.loader](self, entry):
            if len(images) != len(labels):
                raise UserError(f"{self.name}: {len(images)} {split} images but {len(labels)} labels")
            if len(labels) and labels.max() >= len(self.classes):
                raise UserError(
                    f"{self.name}: found label {labels.max()}, but the card has {len(self.classes)} classes"
                )
            yield split, images, labels


def read_card(path: Path) -> Card:
    """Reads a card. Raises UserError naming the file and the key."""
    try:
        small = path.stat().st_size <= MAX_BYTES
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if small else None
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: not UTF-8, or a date that does not exist
        content = None
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is neither a folder, nor a .zip or .tar archive, nor a card (YAML with name, loader, ...)"
        )
    try:
        return Card.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}: " + (f"`{key}`: {message}" if key else message)) from None


def read_idx(path: Path) -> np.ndarray:
    """Reads an IDX file of unsigned bytes, plain or gzipped. Raises UserError for any other file."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    dimensions = data[3] if len(data) >= 4 and data[:3] == b"\0\0\x08" else 0
    shape = tuple(int(n) for n in np.frombuffer(data[4 : 4 + 4 * dimensions], ">u4")) if dimensions else ()
    if dimensions > 3 or len(shape) != dimensions or not shape or len(data) != 4 + 4 * dimensions + math.prod(shape):
        raise UserError(f"{path} is not an IDX file of unsigned bytes, or is cut off")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _load_idx(card: Card, entry: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    for split in SPLITS:
        if f"{split}_images" in card.files:
            images = read_idx(card.fetch(f"{split}_images", entry))
            labels = read_idx(card.fetch(f"{split}_labels", entry))
            if images.ndim != 3 or labels.ndim != 1:
                raise UserError(
                    f"{card.name}: expected images [n, h, w] and labels [n], got {images.shape}, {labels.shape}"
                )
            yield split, images, labels


def _load_cifar(card: Card, entry: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    path = card.fetch("archive", entry)
    batches: dict[str, list[tuple[str, np.ndarray]]] = {"test": [], "train": []}
    width = card.label_bytes + 3 * 32 * 32
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                content = archive.extractfile(member) if name.endswith(".bin") else None
                if content:
                    records = np.frombuffer(content.read(), np.uint8)
                    if len(records) % width:
                        raise UserError(f"{path}: {name} is not a whole number of {width}-byte records")
                    batches["test" if name.startswith("test") else "train"].append((name, records.reshape(-1, width)))
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise UserError(f"{path} cannot be read as a tar archive: {error}") from None
    for split, named in batches.items():
        if not named:
            raise UserError(f"{path} holds no {split}*.bin: not CIFAR's binary version")
        records = np.concatenate([batch for _, batch in sorted(named, key=lambda pair: pair[0])])
        images = records[:, card.label_bytes :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        yield split, images, records[:, card.label_bytes - 1]


def _load_digits(card: Card, entry: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    # The file that sklearn.datasets.load_digits reads: importing it takes longer than the rest of the stage.
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    pixels = np.round(table[:, :64] * 255 / 16).astype(np.uint8)  # stored as 0 to 16
    yield "images", pixels.reshape(-1, 8, 8), table[:, 64].astype(np.uint8)


_LOADERS = {"idx": _load_idx, "cifar": _load_cifar, "digits": _load_digits}
