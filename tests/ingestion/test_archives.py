"""stages.ingestion.archives: zip and tar archives as data sets."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.imaging.decode import Undecodable, decode, read
from stages.ingestion.sources import open_source
from stages.running.terminal import UserError


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


MEMBERS = {f"{name}/{value}.png": png(value) for value, name in enumerate(["cat", "dog", "cat", "dog"])}


def values(path: Path) -> dict[str, int]:
    """The grey value of each image, by its path: proof that the right bytes are read for it."""
    with open_source(path) as source:
        return {item.source: int(decode(read(item.payload))[0][0, 0]) for item in source.items}  # type: ignore[arg-type]


EXPECTED = {name: int(Path(name).stem) for name in MEMBERS}


def write_zip(path: Path, method: int = zipfile.ZIP_DEFLATED, extra: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in (MEMBERS | (extra or {})).items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, mode: str) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in MEMBERS.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip(tmp_path, method):
    assert values(write_zip(tmp_path / "pets.zip", method)) == EXPECTED


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar(tmp_path, mode):
    assert values(write_tar(tmp_path / "any-name", mode)) == EXPECTED


def test_archive_members_that_cannot_be_read_are_listed(tmp_path):
    path = tmp_path / "pets.zip"
    write_zip(path, extra={"cat/../../evil.png": png(9), "/absolute.png": png(9)})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("dog/packed.png", png(9), zipfile.ZIP_LZMA)
    with open_source(path) as source:
        payloads = {item.source: item.payload for item in source.items}
        outside = [(name, "its path leads outside the archive") for name in ("/absolute.png", "cat/../../evil.png")]
        assert source.left_out == outside
    assert payloads["cat/link.png"] == "a symbolic link in an archive"
    assert "compression method 14" in str(payloads["dog/packed.png"])
    assert not (tmp_path.parent / "evil.png").exists()


def test_a_damaged_member_is_told_from_the_others(tmp_path):
    path = write_zip(tmp_path / "pets.zip", zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.find(b"IDAT") + 5] ^= 0xFF
    path.write_bytes(data)
    with open_source(path) as source:
        outcomes: list[object] = []
        for item in source.items:
            try:
                outcomes.append(len(read(item.payload)))  # type: ignore[arg-type]
            except Undecodable as error:
                outcomes.append(str(error))
    assert outcomes.count("damaged archive member") == 1


def test_an_encrypted_zip_is_refused(tmp_path):
    path = write_zip(tmp_path / "pets.zip")
    data = path.read_bytes()
    start = data.find(b"PK\1\2")
    path.write_bytes(data[: start + 8] + b"\1" + data[start + 9 :])
    with pytest.raises(UserError, match="encrypted"), open_source(path):
        pass


def test_a_tar_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path):
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cat/a.png")
        member.size = 2**23
        archive.addfile(member, io.BytesIO(bytes(2**23)))
    with pytest.raises(UserError, match="unpacks to more than"), open_source(tmp_path / "bomb.tar.gz"):
        pass


def test_cut_off_archives_are_one_sentence(tmp_path):
    for path in (write_zip(tmp_path / "a.zip"), write_tar(tmp_path / "a.tar.gz", "w:gz")):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(UserError, match="cannot be read as an archive"), open_source(path):
            pass
