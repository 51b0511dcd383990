"""Opens a zip or tar archive as a stream of images still to be decoded.

Its members are not unpacked to disk, but read in place. Only a compressed tar, which has no random access, is first
decompressed as a whole into one temporary file.
"""

import bz2
import errno
import gzip
import lzma
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

from stages.imaging.decode import Extent, Payload
from stages.ingestion.class_folders import Source, arrange
from stages.ingestion.items import Files
from stages.ingestion.names import readable
from stages.running.parallel import shared_temporary_folder
from stages.running.terminal import UserError

COMPRESSED: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
MAX_RATIO = 200  # of the decompressed to the compressed size of a tar: images hardly compress
OUTSIDE = re.compile(r"^(/|[A-Za-z]:/)|(^|/)\.\.(/|$)")  # an absolute path, or one with `..`


@dataclass(frozen=True)
class Listing:
    """The contents of an archive."""

    files: Files
    folders: list[str] = field(default_factory=list)
    outside: set[str] = field(default_factory=set)  # paths that lead out of the archive: reported, not used

    def add(self, name: str, payload: Payload | None) -> None:
        """Adds a file, or a folder when there is no payload. Later files replace earlier ones of the same name, as they
        do when unpacked."""
        name = readable(name)
        if OUTSIDE.search(name):
            self.outside.add(name)
        elif payload is None:
            self.folders.append(name.rstrip("/"))
        else:
            self.files.add(name, payload)


def is_archive(start: bytes) -> bool:
    """Whether a file that starts with these 512 bytes is an archive, see open_archive."""
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
                    "another disk, or repack it as .zip or .tar, which are read in place"
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


class _ZipDirectory(zipfile.ZipFile):
    """Passes each member to `use` instead of keeping it: a million of them take most of a gigabyte.

    ZipFile has no such option. Its constructor calls `_RealGetContents`, which reads the directory of the archive,
    appends each member to `filelist` and enters it into `NameToInfo`. Here the former calls `use`, the latter drops it.
    """

    def __init__(self, path: Path, use: Callable[[zipfile.ZipInfo], None]):
        self.use = use
        super().__init__(path)

    def _RealGetContents(self) -> None:
        self.filelist, self.NameToInfo = _CallingList(self.use), _EmptyDict()
        super()._RealGetContents()  # type: ignore[misc]


class _CallingList(list):
    """A list whose `append` is a call of `use`."""

    def __init__(self, use: Callable[[zipfile.ZipInfo], None]):
        self.append = use  # type: ignore[method-assign]


class _EmptyDict(dict):
    """A dict that drops its entries."""

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

    with _ZipDirectory(path, add):
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
            archive.members.clear()  # type: ignore[attr-defined] # each takes a kilobyte
            if archive.offset <= end or member.size < 0:  # a negative size would loop for ever
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
        # tarfile mistakes a damaged or missing header for the end, which is a block of zeros.
        if file.read(512) != bytes(512):
            raise tarfile.ReadError("it is damaged or cut off")
    return listing
