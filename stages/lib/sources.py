"""Opens an entry of data/raw, a folder of images, an archive or a card, as a stream of images still to be decoded.

The members of archives are never written to disk, but read where they lie. Only a compressed tar, which cannot be read
out of order, is first decompressed as a whole into one temporary file.
"""

import bz2
import errno
import gzip
import lzma
import os
import re
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from stages.lib.cards import read_card
from stages.lib.decode import Extent, Payload
from stages.lib.items import Files
from stages.lib.layout import Item, Source, arrange
from stages.lib.terminal import UserError
from stages.lib.workers import shared_temporary_folder

COMPRESSED: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
MAX_RATIO = 200  # between a compressed tar and its images, which hardly compress
SHOWN = 20  # entries of data/raw that an error names
# Control characters, line ends, what turns the direction of writing, and halves of characters.
UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
OUTSIDE = re.compile(r"^(/|[A-Za-z]:/)|(^|/)\.\.(/|$)")  # an absolute path, or one that leads up


@dataclass(frozen=True)
class Listing:
    """What an archive holds."""

    files: Files
    folders: list[str] = field(default_factory=list)
    outside: set[str] = field(default_factory=set)  # paths that lead out of the archive: they are told, and not used

    def add(self, name: str, payload: Payload | None) -> None:
        """Adds a file, or a folder when there is no payload. Later files replace earlier ones of the same name, as when
        unpacking."""
        name = readable(name)
        if OUTSIDE.search(name):
            self.outside.add(name)
        elif payload is None:
            self.folders.append(name.rstrip("/"))
        else:
            self.files.add(name, payload)


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Yields the data set at `path`. Raises UserError when it is missing or is none."""
    start = _first_bytes(path)
    if start is None:
        yield arrange(path.name, *walk(path))
        return
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


def _first_bytes(path: Path) -> bytes | None:
    """None for a folder."""
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
    known = ", ".join(entries[:SHOWN]) + (f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else "")
    return f"{path} not found{hint}; ingest.source can be {known or 'nothing yet'}, or a folder you add there"


def walk(root: Path) -> tuple[Files, list[str]]:
    """The files and folders below `root`, symbolic links followed (DVC's cache may use them), each folder once."""
    top = str(root.absolute())  # workers elsewhere have another working directory
    files, folders = Files(top), list[str]()
    seen = set()
    pending = [(top, "")]
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
            name = prefix + readable(entry.name)
            try:
                if entry.is_dir():
                    folders.append(name)
                    pending.append((entry.path, f"{name}/"))
                else:
                    files.add(name, Extent(entry.path) if entry.is_file() else "not a regular file, or a broken link")
            except OSError as error:  # a link to itself, or into a folder that is closed to us
                files.add(name, f"cannot be read: {error.strerror}")
    return files, folders


def readable(name: str) -> str:
    """`name` as text on one line: a name may be any bytes, and what cannot be read becomes escapes."""
    if name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return UNREADABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def _is_archive(start: bytes) -> bool:
    return start.startswith((b"PK\3\4", b"PK\5\6", *COMPRESSED)) or start[257:262] == b"ustar"


@contextmanager
def open_archive(path: Path) -> Iterator[Source]:
    """Yields the data set in a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz, recognised by its first bytes."""
    temporary = shared_temporary_folder()
    with tempfile.NamedTemporaryFile(prefix="visionloop-", dir=temporary) as spool:
        try:
            listing = _list_archive(path, spool)
        except UserError:
            raise
        except Exception as error:  # damaged archives make tarfile and zipfile raise nearly anything
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"{temporary} has no space to decompress {path}: free some, set TMPDIR to a folder on "
                    "another disk, or repack it as .zip or .tar, which are read where they lie"
                ) from None
            text = readable(" ".join(str(error).split()))[:200] or type(error).__name__
            raise UserError(f"{path} cannot be read as an archive: {text}") from None
        source = arrange(path.name, listing.files, listing.folders)
        outside = [(name, "its path leads outside the archive") for name in sorted(listing.outside)]
        yield replace(source, left_out=source.left_out + outside)


def _list_archive(path: Path, spool: IO[bytes]) -> Listing:
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"PK"):
        return _list_zip(path)
    for magic, opener in COMPRESSED.items():
        if start.startswith(magic):
            _copy_unpacked(path, opener, spool)
            return _list_tar(Path(spool.name))
    return _list_tar(path)


class _Members(zipfile.ZipFile):
    """Hands each member to `use` instead of keeping it: a million of them take most of a gigabyte."""

    def __init__(self, path: Path, use: Callable[[zipfile.ZipInfo], None]):
        self.use = use
        super().__init__(path)

    def _RealGetContents(self) -> None:
        self.filelist, self.NameToInfo = _Handed(self.use), _Forgotten()
        super()._RealGetContents()  # type: ignore[misc]


class _Handed(list):
    def __init__(self, use: Callable[[zipfile.ZipInfo], None]):
        self.append = use  # type: ignore[method-assign]


class _Forgotten(dict):
    def __setitem__(self, *_: object) -> None:
        pass


def _list_zip(path: Path) -> Listing:
    where = str(path.absolute())
    listing = Listing(Files(where))

    def add(member: zipfile.ZipInfo) -> None:
        name = member.filename.replace("\\", "/")
        if name.endswith("/"):
            listing.add(name, None)
            return
        if member.flag_bits & 1:
            raise UserError(f"{path} is encrypted: ingest cannot ask for a password, repack it without one")
        payload: Payload = Extent(
            where,
            member.header_offset,
            member.compress_size,
            member.file_size,
            member.compress_type,
            member.CRC,
        )
        if stat.S_ISLNK(member.external_attr >> 16):
            payload = "a symbolic link in an archive"
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            payload = f"zip compression method {member.compress_type} is not supported: repack with deflate"
        listing.add(name, payload)

    with _Members(path, add):
        return listing


def _copy_unpacked(path: Path, opener: Callable[[Path], IO[bytes]], spool: IO[bytes]) -> None:
    limit = MAX_RATIO * path.stat().st_size + 2**20
    with opener(path) as file:
        while piece := file.read(2**20):
            if spool.tell() > limit:
                raise UserError(f"{path} unpacks to more than {MAX_RATIO} times its size: not an archive of images")
            spool.write(piece)
    spool.flush()


def _list_tar(path: Path) -> Listing:
    where, end = str(path.absolute()), 0
    listing = Listing(Files(where))
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined] # it keeps a kilobyte of each
            if archive.offset <= end or member.size < 0:  # sizes below 0 would lead round in circles
                raise tarfile.ReadError("it is damaged")
            end = archive.offset
            name = member.name.removeprefix("./")
            if member.isdir():
                listing.add(name, None)
            elif member.isreg() and not member.issparse():
                listing.add(name, Extent(where, member.offset_data, member.size, member.size))
            else:
                listing.add(name, "a link or special file in an archive")
        end = archive.offset
    with path.open("rb") as file:
        file.seek(end)
        # tarfile takes a damaged or missing header for the end, which is a block of zeros.
        if file.read(512) != bytes(512):
            raise tarfile.ReadError("it is damaged or cut off")
    return listing
