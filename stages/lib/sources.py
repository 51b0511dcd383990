"""Opens an entry of data/raw, a folder of images, an archive or a card, as a stream of images still to be decoded.

The members of archives are never written to disk, but read where they lie. Only a compressed tar, which cannot be read
out of order, is first decompressed as a whole into one temporary file.
"""

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stages.lib.cards import read_card
from stages.lib.decode import Extent, Payload
from stages.lib.layout import Item, Source, arrange
from stages.lib.terminal import UserError

COMPRESSED: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
MAX_RATIO = 200  # between a compressed tar and its images, which hardly compress
CANNOT_OPEN = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    ValueError,
    NotImplementedError,
)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Yields the data set at `path`. Raises UserError when it is missing or is none."""
    if not path.exists():
        raise UserError(_missing(path))
    if path.is_dir():
        yield arrange(path.name, *walk(path))
        return
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if _is_archive(start):
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


def _missing(path: Path) -> str:
    hint = ""
    if path.with_name(path.name + ".dvc").exists():
        hint = f"; `dvc pull {path}` fetches it"
    entries = sorted(p.name for p in path.parent.glob("*") if p.suffix != ".dvc" and not p.name.startswith("."))
    return (
        f"{path} not found{hint}; ingest.source can be {', '.join(entries) or 'nothing yet'}, or a folder you add there"
    )


def walk(root: Path) -> tuple[dict[str, Payload], list[str]]:
    """The files and folders below `root`, symbolic links followed (DVC's cache may use them), each folder once."""
    files: dict[str, Payload] = {}
    folders: list[str] = []
    seen = set()
    pending = [(str(root), "")]
    while pending:
        folder, prefix = pending.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116 - os.scandir works with strings, and is the fast way
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"{folder} cannot be read: {error.strerror}") from None
        for entry in entries:
            name = prefix + (entry.name if entry.name.isascii() else _readable(entry.name))
            if entry.is_dir():
                folders.append(name)
                pending.append((entry.path, f"{name}/"))
            else:
                files[name] = Extent(entry.path) if entry.is_file() else "not a regular file, or a broken link"
    return files, folders


def _readable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")  # a name may be any bytes


def _is_archive(start: bytes) -> bool:
    return start.startswith((b"PK\3\4", b"PK\5\6", *COMPRESSED)) or start[257:262] == b"ustar"


@contextmanager
def open_archive(path: Path) -> Iterator[Source]:
    """Yields the data set in a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz, recognised by its first bytes."""
    with tempfile.NamedTemporaryFile(prefix="visionloop-") as spool:
        try:
            listing = _list_archive(path, spool)
        except CANNOT_OPEN as error:
            raise UserError(f"{path} cannot be read as an archive: {' '.join(str(error).split())}") from None
        yield arrange(path.name, *listing)


def _list_archive(path: Path, spool: IO[bytes]) -> tuple[dict[str, Payload], list[str]]:
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"PK"):
        return _list_zip(path)
    for magic, opener in COMPRESSED.items():
        if start.startswith(magic):
            _copy_unpacked(path, opener, spool)
            return _list_tar(Path(spool.name))
    return _list_tar(path)


def _list_zip(path: Path) -> tuple[dict[str, Payload], list[str]]:
    files: dict[str, Payload] = {}
    folders = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = member.filename.replace("\\", "/")
            if member.is_dir():
                folders.append(name.rstrip("/"))
                continue
            payload: Payload = Extent(
                str(path),
                member.header_offset,
                member.compress_size,
                member.file_size,
                member.compress_type,
                member.CRC,
            )
            if member.flag_bits & 1:
                raise UserError(f"{path} is encrypted: ingest cannot ask for a password, repack it without one")
            if stat.S_ISLNK(member.external_attr >> 16):
                payload = "a symbolic link in an archive"
            elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                payload = f"zip compression method {member.compress_type} is not supported: repack with deflate"
            _add(files, name, payload)
    return files, folders


def _copy_unpacked(path: Path, opener: Callable[[Path], IO[bytes]], spool: IO[bytes]) -> None:
    limit = MAX_RATIO * path.stat().st_size + 2**20
    with opener(path) as file:
        while piece := file.read(2**20):
            if spool.tell() > limit:
                raise UserError(f"{path} unpacks to more than {MAX_RATIO} times its size: not an archive of images")
            spool.write(piece)
    spool.flush()


def _list_tar(path: Path) -> tuple[dict[str, Payload], list[str]]:
    files: dict[str, Payload] = {}
    folders = []
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isdir():
                folders.append(name)
            elif member.isreg() and not member.issparse():
                _add(files, name, Extent(str(path), member.offset_data, member.size, member.size))
            else:
                _add(files, name, "a link or special file in an archive")
        end = archive.offset
    with path.open("rb") as file:
        file.seek(end)
        # tarfile takes a damaged or missing header for the end, which is a block of zeros.
        if file.read(512) != bytes(512):
            raise tarfile.ReadError("it is damaged or cut off")
    return files, folders


def _add(files: dict[str, Payload], name: str, payload: Payload) -> None:
    """Later members of the same name replace earlier ones, as when unpacking. Unsafe names stay names: nothing is
    ever written to them."""
    if name.startswith("/") or ".." in name.split("/"):
        name, payload = name.replace("..", "__").lstrip("/"), "its path leads outside the archive"
    files[name] = payload
