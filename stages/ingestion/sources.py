"""Opens an entry of data/raw, a folder of images, an archive or a card, as a stream of images still to be decoded."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.imaging.decode import Extent
from stages.ingestion.archives import is_archive, open_archive
from stages.ingestion.cards import read_card
from stages.ingestion.class_folders import Item, Source, arrange
from stages.ingestion.items import Files
from stages.ingestion.names import readable
from stages.running.terminal import UserError

MAX_ENTRIES = 20  # of data/raw that an error names


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Yields the data set at `path`. Raises UserError when it is missing or not a data set."""
    start = _first_bytes(path)
    if start is None:
        yield arrange(path.name, *walk(path))
        return
    if is_archive(start):
        with open_archive(path) as source:
            yield source
        return
    card = read_card(path)
    if card.loader == "archive":
        with open_archive(card.fetch("archive", path.name)) as source:
            yield Source(source.classes, source.items, source.left_out, card.image_size)
        return
    yield Source(
        card.classes,
        [
            Item(f"{split}/{index:06d}", split if split in ("train", "val", "test") else None, int(label), image)
            for split, images, labels in card.load(path.name)
            for index, (image, label) in enumerate(zip(images, labels, strict=True))
        ],
        image_size=card.image_size,
    )


def _first_bytes(path: Path) -> bytes | None:
    """The first 512 bytes of a file; None for a folder."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return None
        if not stat.S_ISREG(mode):
            raise UserError(f"{path} is neither a file nor a folder: put images or an archive of them there")
        with path.open("rb") as file:
            return file.read(512)
    except PermissionError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (OSError, ValueError):
        raise UserError(_missing(path)) from None


def _missing(path: Path) -> str:
    names = sorted(p.name for p in path.parent.glob("*"))
    hint = f"; `dvc pull {path}` fetches it" if f"{path.name}.dvc" in names else ""
    entries = [readable(name) for name in names if not name.startswith(".") and not name.endswith(".dvc")]
    more = f" and {len(entries) - MAX_ENTRIES} more" if len(entries) > MAX_ENTRIES else ""
    known = ", ".join(entries[:MAX_ENTRIES]) + more
    return f"{path} not found{hint}; ingest.source can be {known or 'nothing yet'}, or a folder you add there"


def walk(root: Path) -> tuple[Files, list[str]]:
    """The files and folders below `root`, with symbolic links followed (DVC's cache may use them), each folder once."""
    top = str(root.absolute())  # the workers of a cluster have another working directory
    files, folders = Files(top), list[str]()
    seen = set()
    pending = [(top, "")]
    while pending:
        folder, prefix = pending.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116 - os.scandir works with strings, and is faster
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"{folder} cannot be read: {error.strerror}") from None
        for entry in entries:
            name = prefix + readable(entry.name)
            try:
                if entry.is_dir():
                    folders.append(name)
                    pending.append((entry.path, f"{name}/"))
                else:
                    files.add(name, Extent(entry.path) if entry.is_file() else "not a regular file, or a broken link")
            except OSError as error:  # a link to itself, or into a folder that we may not read
                files.add(name, f"cannot be read: {error.strerror}")
    return files, folders
