"""Damaged images and archives by the thousand, through ingest: never a crash, a hang, or a write elsewhere.

`python -m tests.test_fuzz FIRST COUNT FOLDER` runs cases by their number, which is also their seed, in a process that
ends at the first write outside of FOLDER. The tests run it, and so does whoever looks into a case.
"""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.core.params import load_params
from stages.imaging.decode import Extent, decode_chunk
from stages.imaging.resize import Target
from stages.ingest import IngestParams, ingest
from stages.ingestion.names import UNREADABLE
from stages.ingestion.sources import open_source
from stages.running.terminal import UserError
from tests.conftest import ROOT

LIMIT = 10  # seconds for one case; the slowest takes a small part of one
BATCH = 5000  # cases per process
ARCHIVES = 4  # one case in so many is an archive
INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF]


def image_files() -> dict[str, bytes]:
    """A small image in every kind that ingest reads."""
    draw = np.random.default_rng(0)
    colour = Image.fromarray(draw.integers(0, 256, (9, 12, 3), np.uint8))
    grey, other = colour.convert("L"), colour.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    exif = Image.Exif()
    exif[0x0112] = 6
    animated = {"save_all": True, "append_images": [other, colour]}
    kinds: list[tuple[Image.Image, str, dict]] = [
        (grey, "PNG", {}), (colour, "PNG", {}), (colour.quantize(16), "PNG", {"transparency": 3}),
        (colour.convert("RGBA"), "PNG", {}), (grey.convert("I;16"), "PNG", {}), (grey.convert("1"), "PNG", {}),
        (colour, "PNG", {"exif": exif, "dpi": (72, 72)}), (colour, "PNG", animated),
        (colour, "JPEG", {"exif": exif}), (colour, "JPEG", {"progressive": True}), (colour.convert("CMYK"), "JPEG", {}),
        (colour, "BMP", {}), (grey, "BMP", {}), (grey.convert("1"), "BMP", {}),
        (grey, "GIF", {}), (colour.quantize(16), "GIF", animated),
        (colour, "WEBP", {}), (colour.convert("RGBA"), "WEBP", {"lossless": True}), (colour, "WEBP", animated),
        *((colour, "TIFF", {"compression": c}) for c in ("raw", "tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
        (grey.convert("1"), "TIFF", {"compression": "group4"}), (grey.convert("I;16"), "TIFF", {}),
        (colour.convert("CMYK"), "TIFF", {"exif": exif}), (colour, "TIFF", animated),
    ]  # fmt: skip
    files = {}
    for number, (image, kind, options) in enumerate(kinds):
        file = io.BytesIO()
        image.save(file, kind, **options)
        files[f"{number:02d}.{kind.lower()}"] = file.getvalue()
    return files


def archive_files() -> dict[str, bytes]:
    """A small data set in every kind of archive that ingest reads."""
    draw, members = np.random.default_rng(1), {}
    for number in range(16):
        file = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, (8, 8), np.uint8)).save(file, "PNG")
        members[f"set/{'ab'[number % 2]}/{number}.png"] = file.getvalue()
    members["set/a/" + "long" * 40 + ".png"] = file.getvalue()
    files = {}
    for name, method in (("stored.zip", zipfile.ZIP_STORED), ("deflated.zip", zipfile.ZIP_DEFLATED)):
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", method) as zipped:
            for path, data in members.items():
                zipped.writestr(path, data)
        files[name] = target.getvalue()
    for name, mode, kind in (
        ("gnu.tar", "w", tarfile.GNU_FORMAT), ("pax.tar", "w", tarfile.PAX_FORMAT),
        ("a.tar.gz", "w:gz", tarfile.GNU_FORMAT), ("a.tar.bz2", "w:bz2", tarfile.GNU_FORMAT),
        ("a.tar.xz", "w:xz", tarfile.PAX_FORMAT),
    ):  # fmt: skip
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode=mode, format=kind) as archive:  # type: ignore[call-overload]
            for path, data in members.items():
                member = tarfile.TarInfo(path)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        files[name] = target.getvalue()
    return files


def repaired(data: bytearray) -> bytearray:
    """The checksum of a tar's headers made right again, so that what they say is believed."""
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return data


def mutated(data: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """`data` with a few of the changes that break parsers."""
    result = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 3, 8])):
        place = dice.randrange(len(result) + 1) if dice.random() < 0.6 else dice.randrange(min(len(result), 600) + 1)
        match dice.randrange(8):
            case 0 if place < len(result):
                result[place] ^= 1 << dice.randrange(8)
            case 1:
                result[place : place + dice.randrange(1, 9)] = dice.randbytes(dice.randrange(9))
            case 2:
                width = dice.choice([1, 2, 4, 8])
                number = dice.choice(INTERESTING) % 256**width
                result[place : place + width] = number.to_bytes(width, dice.choice(["big", "little"]))
            case 3:
                del result[place : place + dice.randrange(1, 64)]
            case 4 if dice.random() < 0.3:
                del result[place:]
            case 5:
                other = dice.choice(others)
                start = dice.randrange(len(other))
                result[place:place] = other[start : start + dice.randrange(1, 200)]
            case 6:
                result[place:place] = result[place : place + dice.randrange(1, 600)]
            case 7:
                result[place : place + 12] = dice.choice(
                    [b"../../../ev\0", b"/tmp/evil/x\0", b"7777777777\0\0", b"\xff" * 12]
                )
    return bytes(repaired(result) if dice.random() < 0.7 else result)


class TooSlow(BaseException):
    """Not an Exception: the decoder takes those for signs of a damaged file."""


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)


def forbid_writing_outside(folder: Path) -> None:
    """Ends the process when a file is opened for writing, made, moved or removed outside of `folder`, and when a
    program is started."""
    allowed = (str(folder) + os.sep, "/dev/null")

    def watch(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
            paths = [path] if writes and isinstance(path, (str, bytes)) else []
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate", "os.utime"):
            paths = [arguments[0]]
        elif event in ("os.rename", "os.link", "os.symlink"):
            paths = [arguments[0], arguments[1]]
        else:
            paths = ["a program"] * (
                event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class")
            )
        for path in paths:
            place = os.path.realpath(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else ""
            if place and not (place + os.sep).startswith(allowed) and not place.startswith(allowed):
                print(f"forbidden: {event} {arguments}", flush=True)
                os._exit(70)

    sys.addaudithook(watch)


def run_cases(first: int, count: int, folder: Path) -> Counter[str]:
    """Runs the cases, prints those that end in anything but a reason or a sentence, and counts what came of them."""
    images, archives = image_files(), archive_files()
    params = load_params(IngestParams, "ingest", ROOT / "params.yaml").model_copy(
        update={"image_size": 8, "max_bad_fraction": 0.9, "val_fraction": 0.2, "test_fraction": 0.2}
    )
    raw, output, spool = folder / "raw", folder / "ingest", folder / "tmp"
    for each in (raw, output, spool):
        each.mkdir()
    tempfile.tempdir = str(spool)
    sys.dont_write_bytecode = True
    forbid_writing_outside(folder)
    outcomes: Counter[str] = Counter()
    for number in range(first, first + count):
        dice = random.Random(number)
        is_archive = number % ARCHIVES == 0
        seeds = archives if is_archive else images
        name = dice.choice(sorted(seeds))
        path = raw / name
        path.write_bytes(mutated(seeds[name], [*seeds.values()], dice))
        started = time.monotonic()
        try:
            with time_limit():
                if is_archive:
                    with open_source(path) as source:
                        manifest = ingest(source, params, output, 1)
                    outcome = "archives with rejections" if manifest.reasons else "archives read"
                else:
                    _, facts = decode_chunk([Extent(str(path))], Target(8, 3, "pad"))
                    outcome = "images rejected" if facts.reason[0] else "images decoded"
        except UserError as error:
            outcome = "archives refused"
            if UNREADABLE.search(str(error)) or not 20 < len(str(error)) < 2000:
                outcome = "problems"
                print(f"case {number} ({name}): no clear sentence: {error!r}", flush=True)
        except (Exception, TooSlow) as error:
            outcome = "problems"
            print(f"case {number} ({name}): {type(error).__name__}: {error}", flush=True)
        seconds = time.monotonic() - started
        outcomes[outcome] += 1
        outcomes["slowest, ms"] = max(outcomes["slowest, ms"], round(1000 * seconds))
        path.unlink()
        if [*spool.iterdir(), *raw.iterdir()]:
            print(f"case {number} ({name}): left files behind", flush=True)
            outcomes["problems"] += 1
    return outcomes


def fuzz(first: int, count: int, folder: Path) -> str:
    """Runs cases in processes of their own, so that a crash is seen as such; returns what they printed."""
    told = []
    for start in range(first, first + count, BATCH):
        part = min(BATCH, first + count - start)
        (folder / str(start)).mkdir()
        command = [sys.executable, "-m", "tests.test_fuzz", str(start), str(part), str(folder / str(start))]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=120 + LIMIT * 10 + part // 5, check=False
        )
        told.append(done.stdout.strip())
        assert done.returncode == 0, (
            f"cases {start} to {start + part - 1} ended with {done.returncode}:\n{done.stdout}{done.stderr[-3000:]}"
        )
        assert done.stderr == ""
        assert f"{part} cases" in done.stdout
    assert not [line for line in told if "case " in line]
    return "\n".join(told)


OUTCOMES = ("images rejected", "images decoded", "archives refused", "archives with rejections")


def test_a_few_hundred_damaged_images_and_archives(tmp_path):
    said = fuzz(0, 400, tmp_path)
    assert [outcome for outcome in OUTCOMES if outcome not in said] == []


def test_writing_elsewhere_would_be_seen(tmp_path):
    script = (
        "import sys, pathlib; from tests.test_fuzz import forbid_writing_outside as forbid\n"
        "here = pathlib.Path(sys.argv[1]); forbid(here / 'in')\n"
        "(here / 'in').mkdir(); (here / 'in' / 'a').write_text('a')\n"
        "print('so far'); (here / 'out').write_text('a')"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split("\n")[0]) == (70, "so far")
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_sixty_thousand_damaged_images_and_archives(tmp_path, capsys):
    said = fuzz(1_000_000, 60_000, tmp_path)
    with capsys.disabled():
        print(f"\n{said}")
    assert [outcome for outcome in OUTCOMES if outcome not in said] == []


if __name__ == "__main__":
    first, count, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    found = run_cases(first, count, folder)
    print(f"{count} cases: " + ", ".join(f"{name} {number}" for name, number in sorted(found.items())))
