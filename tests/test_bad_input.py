"""A corpus of bad input. Each case goes through the whole stage, and ends as a row of the manifest that says why the
file was left out, or as one clear sentence; where an odd file is fine after all, its pixels are checked."""

import io
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from stages import ingest, validate
from stages.core.dataset import read_classes, read_images
from stages.drawing.grids import image_grid
from stages.evaluation.classifier import page as classifier_page
from stages.evaluation.classifier.figures import draw_classifier
from stages.evaluation.generator import page as generator_page
from stages.running.terminal import run_stage
from tests.conftest import ROOT

RANDOM = np.random.default_rng(0)
RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4  # all values different
COLOUR = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)
SET = Path("data/raw/set")


def png(image: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def good_files(classes=("cat", "dog"), per_class: int = 20) -> dict[str, bytes]:
    random = np.random.default_rng(1)
    return {
        f"{name}/{k:02d}.png": png(random.integers(0, 256, (8, 8), np.uint8))
        for name in classes
        for k in range(per_class)
    }


GOOD = good_files()


def write(files: Mapping[str, bytes], root: Path = SET) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def write_zip(files: Mapping[str, bytes], path: Path = SET) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def write_tar(files: Mapping[str, bytes | str], path: Path = SET, mode: str = "w") -> None:
    """A text instead of bytes is where a symbolic link leads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)


def change_params(section: str, changes: Mapping[str, object]) -> None:
    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    content[section].update(changes)
    Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def tree(folder: Path) -> dict[str, tuple]:
    """Everything below a folder, and when it was written."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        found[path.relative_to(folder).as_posix()] = (kind, status.st_size, status.st_mtime_ns * stat.S_ISREG(kind))
    return found


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs ingest on data/raw/set: the sentence that it ends with, or the rows of the manifest by source. Nothing may
    be written outside its folder, and nothing at all when it fails."""

    def run_ingest(**changes: object) -> str | dict[str, dict]:
        change_params(
            "ingest", {"source": "set", "image_size": 8, "val_fraction": 0.2, "max_bad_fraction": 0.5} | changes
        )
        others = [*project.parent.iterdir()]
        before = tree(project)
        capsys.readouterr()
        code = exit_code(ingest.main)
        said, complaint = capsys.readouterr()
        after = tree(project)
        assert [*project.parent.iterdir()] == others
        if code:
            assert (code, said) == (1, "")
            assert re.fullmatch(r"error: [^\n]{20,1000}\n", complaint)
            assert complaint[:-1].isprintable()
            assert after == before
            return complaint
        assert (said.count("\n"), complaint) == (3, "")
        ours = re.compile("data/ingest(/|$)")
        changed = {path for path in {*after, *before} if after.get(path) != before.get(path)}
        assert [path for path in changed if not ours.match(path)] == []
        return {row["source"]: row for row in pq.read_table("data/ingest/manifest.parquet").to_pylist()}

    return run_ingest


def exit_code(main: Callable[[], None]) -> object:
    try:
        run_stage(main)
    except SystemExit as end:
        return end.code
    return 0


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises far more than there is."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def jpeg_of_many_scans() -> bytes:
    data = png(np.zeros((64, 64), np.uint8), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 1000 + data[-2:]


NOISE = RANDOM.integers(0, 256, (64, 64, 3), np.uint8)
BAD_FILES = {
    "zero bytes": (b"", "empty file"),
    "truncated JPEG": (png(NOISE, "JPEG")[:2000], "damaged: image file is truncated"),
    "truncated PNG": (png(NOISE)[:2000], "damaged: "),
    "truncated GIF": (png(Image.fromarray(NOISE).quantize(), "GIF")[:1200], "damaged: "),
    "truncated TIFF": (png(NOISE, "TIFF")[:2000], "damaged: "),
    "truncated BMP": (png(NOISE, "BMP")[:2000], "damaged: "),
    "truncated WebP": (png(NOISE, "WEBP")[:2000], "damaged: |not an image"),
    "header alone": (png(NOISE)[:33], "damaged: |not an image"),
    "a flipped bit": (png(RAMP).replace(b"IDAT\x78", b"IDAT\x79"), "damaged: "),
    "a text": (b"this is a text\n", "not an image in PNG"),
    "a web page": (b"<html><script>alert(1)</script></html>", "not an image in PNG"),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="8" height="8"/></svg>', "not an image in PNG"),
    "a pickle": (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x07exit 99\x85R.", "not an image in PNG"),
    "PostScript, which Pillow would hand to a program": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
        "not an im",
    ),
    "another format": (png(COLOUR, "PPM"), "not an image in PNG"),
    "decompression bomb": (png_of_size(30_000, 30_000), "more than 89,000,000 pixels"),
    "a bomb that Pillow only warns of": (png_of_size(9_450, 9_470), "more than 89,000,000 pixels"),
    "no pixels": (png_of_size(0, 8), "no pixels|not an image"),
    "JPEG of a thousand scans": (jpeg_of_many_scans(), "more than 200 scans"),
    "32 bit": (png(RAMP.astype(np.int32) * 70_000, "TIFF"), "32-bit values outside 0 to 65535"),
    "floating point": (png(RAMP / np.float32(255), "TIFF"), "floating-point pixels have no fixed range"),
}


@pytest.mark.parametrize(("data", "reason"), BAD_FILES.values(), ids=list(BAD_FILES))
def test_a_bad_file_is_listed_with_its_reason(run, data, reason):
    write(GOOD | {"cat/odd.png": data})
    row = run()["cat/odd.png"]
    assert re.match(f".*({reason})", row["reason"])
    assert (row["sha256"], row["mean"]) == (None, None)


@pytest.mark.parametrize("name", ["zero bytes", "truncated JPEG", "decompression bomb"])
def test_bad_files_beyond_max_bad_fraction_stop_the_stage(run, name):
    data, reason = BAD_FILES[name]
    write(GOOD | {"cat/odd.png": data})
    assert re.search(
        rf"1 of 41 images cannot be decoded, .* allows 0\.00%: cat/odd\.png: .*{reason}", run(max_bad_fraction=0)
    )


def oriented(image: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned to the left
    return png(Image.fromarray(np.ascontiguousarray(np.rot90(image))), exif=exif)


def palette() -> bytes:
    image = Image.fromarray((RAMP // 128).astype(np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    return png(image, transparency=1)


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(RAMP), Image.fromarray(RAMP.T.copy())]
    return png(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )


def grey(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[..., None], 3, axis=2)


RED = np.full((8, 8, 3), (255, 0, 0), np.uint8)
ODD_FILES = {
    "wrong extension": ("x.jpg", png(COLOUR), "RGB", COLOUR),
    "extension in capitals": ("X.PNG", png(COLOUR), "RGB", COLOUR),
    "animated GIF": ("x.gif", animation("GIF"), "P", grey(RAMP)),
    "animated WebP": ("x.webp", animation("WEBP"), "RGBA", grey(RAMP)),
    "animated PNG": ("x.png", animation("PNG"), "L", grey(RAMP)),
    "CMYK": ("x.tif", png(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), "CMYK", RED),
    "16 bit": ("x.png", png(RAMP.astype(np.uint16) * 257), "I;16", grey(RAMP)),
    "1 bit": ("x.png", png(Image.fromarray(RAMP > 99)), "1", grey(np.where(RAMP > 99, 255, 0))),
    "palette with transparency": ("x.png", palette(), "P", np.where(RAMP[..., None] < 128, RED, 0)),
    "alpha": ("x.png", png(np.dstack([COLOUR, np.where(RAMP < 99, 255, 0).astype(np.uint8)])), "RGBA",
              np.where(RAMP[..., None] < 99, COLOUR, 0)),
    "EXIF rotation": ("x.png", oriented(COLOUR), "RGB", COLOUR),
    "damaged EXIF": ("x.png", png(COLOUR, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), "RGB", COLOUR),
    "a text behind the image": ("x.png", png(COLOUR) + b"<script>alert(1)</script>", "RGB", COLOUR),
}  # fmt: skip


@pytest.mark.parametrize(("name", "data", "mode", "pixels"), ODD_FILES.values(), ids=list(ODD_FILES))
def test_an_odd_file_ends_as_the_right_pixels(run, name, data, mode, pixels):
    write({f"train/{path}": each for path, each in GOOD.items()} | {f"test/cat/{name}": data})
    row = run(channels=3)[f"test/cat/{name}"]
    assert (row["reason"], row["mode"], row["width"], row["height"]) == (None, mode, 8, 8)
    np.testing.assert_array_equal(read_images("data/ingest", "test")[0], pixels)


@pytest.mark.parametrize(("width", "height"), [(20_000, 1), (20_000, 30), (1, 20_000), (1, 1), (7, 9)])
def test_any_size_fits_once_a_size_is_asked_for(run, width, height):
    write(GOOD | {"cat/odd.png": png(np.full((height, width), 200, np.uint8))})
    row = run()["cat/odd.png"]
    assert (row["reason"], row["width"], row["height"]) == (None, width, height)
    assert f"{width}x{height} px" in run(image_size=None)
    assert "set ingest.image_size to a number of px" in run(image_size=None)


def test_mixed_sizes_and_modes_end_alike(run):
    modes = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]
    images = [Image.fromarray(RANDOM.integers(0, 256, (8 + k, 9), np.uint8)).convert(m) for k, m in enumerate(modes)]
    write(GOOD | {f"cat/odd-{k}.tif": png(image, "TIFF") for k, image in enumerate(images)})
    rows = run()
    assert [rows[f"cat/odd-{k}.tif"]["mode"] for k in range(len(modes))] == modes
    assert {row["reason"] for row in rows.values()} == {None}
    assert "differ in size" in run(image_size=None)


TINY = [np.full((1, 1), value, np.uint8) for value in range(40)]


def then(*steps: Callable[[], object]) -> Callable[[], None]:
    def do() -> None:
        for step in steps:
            step()

    return do


SETS: dict[str, tuple[Callable[[], object], dict[str, object], str]] = {
    "nothing there": (lambda: None, {}, "data/raw/set not found; ingest.source can be nothing yet"),
    "a name longer than a path may be": (lambda: None, {"source": "é" * 200}, "not found"),
    "an empty folder": (lambda: SET.mkdir(parents=True), {}, "set holds no images in class folders"),
    "an empty class": (
        then(lambda: write(GOOD), lambda: (SET / "emu").mkdir()),
        {},
        "class folder `emu` holds no images",
    ),
    "a class of texts": (lambda: write(GOOD | {"emu/x.txt": b"text"}), {}, "class folder `emu` holds no images"),
    "a single class": (lambda: write(good_files(["cat"])), {}, "a single class, `cat`: at least two are needed"),
    "one image per class": (lambda: write(good_files("abcdefgh", 1)), {}, "is left without train images"),
    "all duplicates": (
        lambda: write({f"{name}/{k}.png": png(RAMP) for name in ("cat", "dog") for k in range(20)}),
        {},
        r"left without train images \(1 in val and test, 19 left out as duplicates",
    ),
    "all of a class bad": (lambda: write(GOOD | {"emu/x.png": b"", "emu/y.png": b""}), {}, "`emu` is left without"),
    "all bad": (lambda: write(dict.fromkeys(GOOD, b"text")), {}, "40 of 40 images cannot be decoded"),
    "all 1x1": (
        lambda: write({f"{'ab'[k % 2]}/{k}.png": png(image) for k, image in enumerate(TINY)}),
        {"image_size": None},
        "1 px large: set ingest.image_size",
    ),
    "case-colliding classes": (lambda: write(GOOD | {"Cat/x.png": png(RAMP)}), {}, "`Cat` and `cat` differ in case"),
    "classes that differ in spaces": (lambda: write(GOOD | {"cat /x.png": png(RAMP)}), {}, "differ in spaces"),
    "images beside the splits": (lambda: write(dict.fromkeys(["train/x.png", "test/x.png"], png(RAMP))), {}, "direct"),
    "a closed folder": (
        then(lambda: write(GOOD), lambda: closed(SET / "cat")),
        {},
        "cat cannot be read: Permission denied",
    ),
    "a named pipe": (
        then(lambda: SET.parent.mkdir(parents=True), lambda: os.mkfifo(SET)),
        {},
        "set is neither a file nor",
    ),
    "a link to itself": (
        then(lambda: SET.parent.mkdir(parents=True), lambda: SET.symlink_to("set")),
        {},
        "data/raw/set not found",
    ),
    "a video": (
        then(lambda: write(GOOD, SET.with_name("x")), lambda: SET.write_bytes(RANDOM.bytes(2**21))),
        {},
        "nor a card",
    ),
    "a card that is a bomb": (
        then(lambda: write(GOOD, SET.with_name("x")), lambda: SET.write_bytes(b"[" * 3000)),
        {},
        "nor a",
    ),
    "a card with an impossible date": (lambda: write({"set": b"name: 2024-13-45"}, SET.parent), {}, "nor a card"),
    "a card that runs code": (
        lambda: write({"set": b"name: !!python/object/apply:os.system ['exit 99']"}, SET.parent),
        {},
        "nor a card",
    ),
    "a zip cut off": (
        then(lambda: write_zip(GOOD), lambda: cut(SET)),
        {},
        "cannot be read as an archive: File is not a zip file",
    ),
    "a tar cut off": (then(lambda: write_tar(GOOD), lambda: cut(SET)), {}, "cannot be read as an archive: "),
    "a tar.gz cut off": (
        then(lambda: write_tar(GOOD, mode="w:gz"), lambda: cut(SET)),
        {},
        "cannot be read as an archive: ",
    ),
    "an encrypted zip": (
        then(lambda: write_zip(GOOD), lambda: encrypt(SET)),
        {},
        "set is encrypted: ingest cannot ask",
    ),
    "a tar.gz bomb": (lambda: write_tar({"cat/x.png": bytes(2**23)}, mode="w:gz"), {}, "unpacks to more than 200"),
    "nested archives alone": (lambda: write_zip({"a/x.zip": png(RAMP), "b/x.zip": png(RAMP)}), {}, "holds no images"),
    "names without letters": (lambda: write_tar({"": b"", "/": b"", "//": b""}), {}, "holds no images in"),
    "sizes below 0 in a tar": (
        then(lambda: write_tar(GOOD), lambda: negative_size(SET)),
        {},
        "cannot be read as an archive",
    ),
    "a thousand names for one tar member": (lambda: long_names(SET), {}, "cannot be read as an archive"),
}


def closed(folder: Path) -> None:
    """As root, all doors are open."""
    folder.chmod(0)
    if os.access(folder, os.R_OK):
        folder.chmod(0o755)
        pytest.skip("this user may read everything")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def encrypt(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"))


def negative_size(path: Path) -> None:
    """Gives the third member of a tar the size -1024, which leads back to the second."""
    data = bytearray(path.read_bytes())
    start = 2 * 1024
    data[start + 124 : start + 136] = b"\xff" * 10 + struct.pack(">h", -1024)
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    path.write_bytes(data)


def long_names(path: Path) -> None:
    """Each header of a tar says that the next one has another name."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 0
    path.parent.mkdir(parents=True)
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) * 3000 + bytes(1024))


@pytest.mark.parametrize(("make", "changes", "message"), SETS.values(), ids=list(SETS))
def test_an_unusable_data_set_is_one_sentence(run, make, changes, message):
    make()
    assert re.search(message, run(**changes))


def test_a_file_that_cannot_be_read_is_listed(run):
    write(GOOD | {"dog/closed.png": png(RAMP)})
    if Path("/proc/self/mem").exists():
        (SET / "cat" / "odd.png").symlink_to("/proc/self/mem")  # fails for root, too
        assert re.match("cannot be read: .*error", run()["cat/odd.png"]["reason"])
        (SET / "cat" / "odd.png").unlink()
    (SET / "dog" / "closed.png").chmod(0)
    if not os.access(SET / "dog" / "closed.png", os.R_OK):
        assert run()["dog/closed.png"]["reason"] == "cannot be read: Permission denied"


def test_links_that_lead_round_or_nowhere_are_listed(run):
    write(GOOD)
    (SET / "cat" / "itself.png").symlink_to("itself.png")
    (SET / "cat" / "up").symlink_to("..")
    (SET / "cat" / "down").symlink_to(SET.absolute() / "dog")
    (SET / "cat" / "nowhere.png").symlink_to("nowhere")
    os.mkfifo(SET / "cat" / "pipe.png")
    rows = run()
    reasons = {name: rows[f"cat/{name}.png"]["reason"] for name in ("itself", "nowhere", "pipe")}
    assert reasons.pop("itself") == "cannot be read: Too many levels of symbolic links"
    assert set(reasons.values()) == {"not a regular file, or a broken link"}
    assert len(rows) == 43


def test_hidden_and_system_files_are_nothing(run):
    junk = [".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "cat/._00.png", "__MACOSX/cat/._00.png", ".git/x.png"]
    write(GOOD | dict.fromkeys(junk, b"junk"))
    assert set(run()) == set(GOOD)


def test_what_is_no_image_is_listed_and_counts_not_as_bad(run):
    others = {"cat/notes.txt": b"text", "cat/more.zip": b"PK", "cat/README": b"text", "readme.md": b"text"}
    write(GOOD | others)
    rows = run(max_bad_fraction=0)
    assert {name: rows[name]["reason"] for name in others} == {
        "cat/notes.txt": "not an image file (.txt)",
        "cat/more.zip": "not an image file (.zip)",
        "cat/README": "not an image file (no extension)",
        "readme.md": "not inside a class folder",
    }


def test_one_image_under_two_labels_is_left_out_once_and_validate_stops(run, capsys):
    write(GOOD | {"dog/twin.png": GOOD["cat/00.png"]})
    assert run()["dog/twin.png"]["reason"] == "duplicate of cat/00.png (class cat)"
    with pytest.raises(SystemExit):
        run_stage(validate.main)
    assert "an image found under two labels" in capsys.readouterr().out


ODD_NAMES = [
    "été", "猫", "two words", "line\nbreak", "<script>alert(1)", "<h1>&amp;", "$x^2$", "%s{0}", "-rf", "~", "no",
    "\u202edlo", "\x1b[31mred", "👩\u200d💻", "'; drop table", "a" * 200,
]  # fmt: skip


def test_any_name_can_be_a_class_in_every_stage_page_and_picture(run, capsys, tmp_path):
    write(good_files(ODD_NAMES, 12))
    rows = run(test_fraction=0.1)
    classes = read_classes("data/ingest")
    assert len(classes) == len(ODD_NAMES)
    assert {"line\\nbreak", "\\u202edlo", "\\x1b[31mred", "<script>alert(1)", "👩\u200d💻"} <= set(classes)
    assert all("\n" not in name and "\x1b" not in name for name in [*classes, *rows])
    change_params("validate", {"min_images_per_class": 1000})
    with pytest.raises(SystemExit):
        run_stage(validate.main)
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    page = Path(".visionloop/validate/docs/index.html").read_text(encoding="utf-8")
    assert "\u2039script\u203aalert(1)" in page
    assert "<script>alert" not in page
    count = len(classes)
    probabilities = np.eye(count)[::-1]
    images = np.zeros((count, 8, 8, 1), np.uint8)
    draw_classifier(tmp_path, images, np.arange(count), probabilities, classes)
    image_grid(images, tmp_path / "grid.png", 4, row_labels=classes[:4], column_labels=classes[:4], captions=classes)


def test_names_that_are_no_text_become_text(run):
    files = {path.replace("/", "\udcff\n/"): data for path, data in GOOD.items()}
    write_tar(files)
    from_tar = run()
    write(files, Path("data/raw/folder"))
    assert set(run(source="folder")) == set(from_tar)
    assert read_classes("data/ingest") == ["cat\\xff\\n", "dog\\xff\\n"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_lead_outside_are_listed_and_written_nowhere(run, tmp_path, kind):
    names = ["../../evil.png", "cat/../../../evil.png", f"{tmp_path}/evil.png", "C:/evil.png", "..", "cat/.."]
    if kind == "zip":
        write_zip(GOOD | dict.fromkeys([*names, "D:\\cat\\evil.png"], png(COLOUR)))
        names.append("D:/cat/evil.png")
    else:
        write_tar({**GOOD, **dict.fromkeys(names, png(COLOUR))})
    rows = run(max_bad_fraction=0)
    assert {rows[name]["reason"] for name in names} == {"its path leads outside the archive"}
    assert read_classes("data/ingest") == ["cat", "dog"]
    assert not list(tmp_path.parent.rglob("*evil*"))


def test_links_in_archives_are_not_followed(run):
    write_tar({**GOOD, "cat/link.png": "/etc/passwd", "dog/up.png": "../cat/00.png"})
    rows = run()
    assert {rows[name]["reason"] for name in ("cat/link.png", "dog/up.png")} == {"a link or special file in an archive"}
    write_zip(GOOD)
    with zipfile.ZipFile(SET, "a") as archive:
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert run()["cat/link.png"]["reason"] == "a symbolic link in an archive"


def test_a_zip_bomb_costs_no_memory(run):
    write_zip(GOOD)
    with zipfile.ZipFile(SET, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/zeros.png", bytes(2**24))
        archive.writestr("cat/lies.png", bytes(2**20))
        archive.writestr("dog/huge.png", b"x")
    data = SET.read_bytes()
    data = data.replace(struct.pack("<L", 2**20), struct.pack("<L", 100))  # says that it is smaller
    where = data.rindex(b"dog/huge.png") - 46 + 20
    SET.write_bytes(data[:where] + struct.pack("<LL", 3, 2**32 - 2) + data[where + 8 :])
    rows = run()
    assert rows["cat/zeros.png"]["reason"].startswith("not an image")
    assert rows["cat/lies.png"]["reason"] == "damaged archive member"
    assert rows["dog/huge.png"]["reason"] == "larger than 256 MiB"


CODE_FROM_DATA = re.compile(
    r"\b(import|from) (pickle|dill|joblib|cloudpickle|shelve|marshal)\b|\byaml\.(unsafe_|full_)?load\("
    r"|\beval\(|\bexec\(|enable_unsafe_deserialization|allow_pickle=True|safe_mode=False"
)


def test_nothing_that_is_loaded_can_bring_code():
    found = []
    for path in (path for folder in ("stages", "ops") for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found_code = CODE_FROM_DATA.findall(text)
        # Tasks and results go through Dask, whose own protocol is pickles, and the pipes of processes that the stage
        # has started; none of them is ever in a file.
        assert len(found_code) == {"cluster.py": 2, "processes.py": 1}.get(path.name, 0), path
        for call, arguments in re.findall(r"\b(np\.load|(?:saving|models)\.load_model)\(([^\n]*)", text):
            wanted = "allow_pickle=False" if call == "np.load" else "safe_mode=True"
            assert wanted in arguments, f"{path}: {call}({arguments}"
            found.append(call)
    assert {"np.load", "saving.load_model", "models.load_model"} <= {*found}


def test_the_pages_of_evaluation_name_nothing_that_comes_from_data():
    figures = dict.fromkeys(
        ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "nll", "ece", "fd", "fd_floor", "kid", "kid_error",
         "precision", "recall", "label_accuracy", "label_accuracy_real", "cas"), 0.5
    )  # fmt: skip
    assert "<" not in classifier_page.write_page(figures, 10)
    assert "<" not in generator_page.write_page(figures, 10, True, 0.01)


BAD_PARAMS: dict[str, tuple[str | bytes, str]] = {
    "NaN": ("ingest: {val_fraction: .nan}", "`ingest.val_fraction` is nan: "),
    "infinite": ("ingest: {val_fraction: .inf}", "`ingest.val_fraction` is inf: "),
    "negative": ("ingest: {test_fraction: -0.1}", "`ingest.test_fraction` is -0.1: "),
    "huge": ("ingest: {image_size: 1" + "0" * 50 + "}", "`ingest.image_size` is 10000"),
    "too long to write out": (
        "ingest: {shard_mib: 0x" + "f" * 9000 + "}",
        "`ingest.shard_mib` is a number with thousands",
    ),
    "a long text": ("ingest: {fit: " + "x" * 100_000 + "}", "`ingest.fit` is 'xxx"),
    "wrong type": ("ingest: {channels: three}", "`ingest.channels` is 'three': "),
    "a list": ("ingest: {channels: [1, 3]}", r"`ingest.channels` is \[1, 3\]: "),
    "truth": ("ingest: {max_bad_fraction: true}", "`ingest.max_bad_fraction` is True: "),
    "null": ("ingest: {val_fraction: null}", "`ingest.val_fraction` is None: "),
    "a date": ("ingest: {image_size: 2024-01-01}", "`ingest.image_size` is datetime.date"),
    "unknown key": ("ingest: {image_sise: 8}", "`ingest.image_sise` is not a param"),
    "a key that is a number": ("ingest: {7: 8}", "`ingest.7` is"),
    "a key of two lines": ('ingest: {"a\\nb": 8}', r"`ingest.'a\\nb'` is not a param"),
    "missing key": ("ingest: {source: digits}", "`ingest.fit` is missing"),
    "missing section": ("gan: {lr: 1}", "has no section `ingest:`"),
    "a section that is a list": ("ingest: [1]", "has no section `ingest:`"),
    "empty file": ("", "has no section `ingest:`"),
    "not YAML": ("ingest: {", "is not valid YAML"),
    "tabs": ("ingest:\n\tsource: digits", "is not valid YAML"),
    "two documents": ("ingest: {}\n---\ningest: {}", "is not valid YAML"),
    "not UTF-8": (b"ingest: \xff\xfe", "is not valid YAML"),
    "zero bytes": (b"\0\0\0", "is not valid YAML"),
    "lists without end": ("ingest: " + "[" * 3000, "is not valid YAML"),
    "lists within lists, a billion": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
        + "ingest: {fit: *i}",
        r"`ingest.fit` is \[\[\[\.\.\.\]",
    ),
    "a list that holds itself": ("ingest: {fit: &a [*a]}", r"`ingest.fit` is \[\[\[\.\.\.\]\]\]"),
    "code": ("ingest: {fit: !!python/object/apply:os.system ['exit 99']}", "is not valid YAML"),
    "a source elsewhere": ("ingest: {source: ../secrets}", "`ingest.source` is '../secrets'"),
    "a source of two lines": ('ingest: {source: "a\\nb"}', r"`ingest.source` is 'a\\nb'"),
}


@pytest.mark.parametrize(("text", "message"), BAD_PARAMS.values(), ids=list(BAD_PARAMS))
def test_bad_params_are_one_sentence(project, capsys, text, message):
    changed = text
    if isinstance(text, str) and (found := re.fullmatch(r"(.*\n)*ingest: \{(.*)\}", text)) and "missing" not in message:
        # What the case changes, the rest as it is by default.
        defaults = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["ingest"]
        key = re.match(r'"?(\w+)', found[2])
        rest = {name: value for name, value in defaults.items() if not key or name != key[1]}
        changed = text[:-1] + ", " + yaml.safe_dump(rest, default_flow_style=True, width=10**6).strip()[1:]
    Path("params.yaml").write_bytes(changed.encode() if isinstance(changed, str) else changed)
    before = tree(project)
    with pytest.raises(SystemExit) as end:
        run_stage(ingest.main)
    said, sentence = capsys.readouterr()
    assert (end.value.code, said) == (1, "")
    assert re.fullmatch(rf"error: params\.yaml[: ].*{message}.*\n", sentence)
    assert len(sentence) < 1000
    assert tree(project) == before


def test_params_that_are_a_folder_or_missing_are_one_sentence(project, capsys):
    Path("params.yaml").unlink()
    for message in ("not found: run from the root", "cannot be read: Is a directory"):
        with pytest.raises(SystemExit):
            run_stage(ingest.main)
        assert message in capsys.readouterr().err
        Path("params.yaml").mkdir(exist_ok=True)
