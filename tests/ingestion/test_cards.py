"""Cards of data sets: what they may hold, and what is refused."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from stages.ingestion.cards import Card, read_card, read_idx
from stages.ingestion.sources import open_source
from stages.running.terminal import UserError

RAW = Path("data/raw")
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (7, 28, 28), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0], np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def put(cache: Path, name: str, data: bytes) -> dict[str, str]:
    """Puts a file where a download would be kept, and returns what a card says of it."""
    (cache / "entry").mkdir(parents=True, exist_ok=True)
    (cache / "entry" / name).write_bytes(data)
    return {"url": f"http://127.0.0.1:1/{name}", "hash": "sha256:" + hashlib.sha256(data).hexdigest()}


def write_card(path: Path, **content) -> Path:
    path.write_text(yaml.safe_dump({"name": "Test", "classes": ["a", "b", "c"]} | content))
    return path


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("VISIONLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100"])
def test_the_cards_of_the_repository_are_valid(name):
    card = read_card(RAW / name)
    assert len(card.classes) == (100 if name == "cifar100" else 10)
    assert card.licence
    assert card.homepage


def test_digits_are_those_of_scikit_learn():
    with open_source(RAW / "digits") as source:
        expected = load_digits()
        pixels = np.stack([np.asarray(item.payload) for item in source.items])
        np.testing.assert_array_equal(np.round(pixels / 255 * 16), expected.images)
        np.testing.assert_array_equal([item.label for item in source.items], expected.target)
        assert source.image_size == 16


def test_idx(cache, tmp_path):
    files = {
        "train_images": put(cache, "i.gz", gzip.compress(idx(IMAGES))),
        "train_labels": put(cache, "l", idx(LABELS)),
        "test_images": put(cache, "ti", idx(IMAGES[:2])),
        "test_labels": put(cache, "tl", idx(LABELS[:2])),
    }
    with open_source(write_card(tmp_path / "entry", loader="idx", files=files)) as source:
        assert [item.source for item in source.items[:3]] == ["test/000000", "test/000001", "train/000000"]
        train = [item for item in source.items if item.split == "train"]
    np.testing.assert_array_equal(np.stack([np.asarray(item.payload) for item in train]), IMAGES)
    np.testing.assert_array_equal([item.label for item in train], LABELS)


@pytest.mark.parametrize("label_bytes", [1, 2])
def test_cifar(cache, tmp_path, label_bytes):
    images = RANDOM.integers(0, 256, (5, 32, 32, 3), np.uint8)
    labels = np.array([2, 1, 0, 2, 1], np.uint8)
    coarse = np.zeros((5, label_bytes - 1), np.uint8)
    records = np.hstack([coarse, labels[:, None], images.transpose(0, 3, 1, 2).reshape(5, -1)])
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, part in (
            ("data_batch_2.bin", records[2:4]),
            ("data_batch_1.bin", records[:2]),
            ("test.bin", records[4:]),
        ):
            member = tarfile.TarInfo(f"cifar/{name}")
            member.size = part.nbytes
            archive.addfile(member, io.BytesIO(part.tobytes()))
    card = write_card(
        tmp_path / "entry",
        loader="cifar",
        label_bytes=label_bytes,
        files={"archive": put(cache, "cifar.tar.gz", file.getvalue())},
    )
    with open_source(card) as source:
        for split, chosen in (("train", slice(0, 4)), ("test", slice(4, 5))):
            items = [item for item in source.items if item.split == split]
            np.testing.assert_array_equal(np.stack([np.asarray(item.payload) for item in items]), images[chosen])
            assert [item.label for item in items] == labels[chosen].tolist()


def test_labels_and_images_must_agree(cache, tmp_path):
    for labels, message in ((LABELS[:3], "7 train images but 3 labels"), (LABELS + 3, "found label 5")):
        files = {"train_images": put(cache, "i", idx(IMAGES)), "train_labels": put(cache, "l", idx(labels))}
        card = write_card(tmp_path / "entry", loader="idx", files=files)
        with pytest.raises(UserError, match=message), open_source(card):
            pass


@pytest.mark.parametrize("data", [b"", b"\0\0\x08\x03", idx(IMAGES)[:-1], idx(IMAGES) + b"\0", b"\0\0\x0b\x01\0\0\0\0"])
def test_what_is_not_idx_is_refused(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UserError, match="is not an IDX file"):
        read_idx(tmp_path / "file")


FILE = {"url": "http://x.org/a.zip", "hash": "md5:" + "0" * 32}
PAIR = {"train_images": FILE, "train_labels": FILE}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"loader": "idx"}, "needs files.train_images"),
        ({"loader": "archive"}, "needs files.archive"),
        ({"loader": "pickle"}, "`loader`"),
        ({"loader": "digits", "clases": []}, "`clases`"),
        ({"loader": "digits", "classes": ["a"]}, "at least two classes"),
        ({"loader": "digits", "classes": ["a", 1, "b", "1"]}, "class `1` is listed twice"),
        ({"loader": "digits", "files": {"archive": FILE}}, "files.archive is unknown: loader digits takes no files"),
        (
            {"loader": "archive", "files": {"archive": FILE, "archives": FILE}},
            "files.archives is unknown: loader archive takes files.archive",
        ),
        ({"loader": "idx", "files": PAIR | {"test_lables": FILE}}, "files.test_lables is unknown.*files.test_labels,"),
        (
            {"loader": "idx", "files": PAIR | {"test_images": FILE}},
            "files.test_labels is missing: files.test_images needs it",
        ),
        ({"loader": "idx", "files": PAIR | {"val_labels": FILE}}, "files.val_images is missing"),
        ({"loader": "digits", "image_size": 4}, "`image_size`"),
        ({"loader": "archive", "files": {"archive": FILE | {"url": "file:///etc/passwd"}}}, "`files.archive.url`"),
        ({"loader": "archive", "files": {"archive": FILE | {"hash": "md5:1"}}}, "`files.archive.hash`"),
    ],
)
def test_a_wrong_card_names_the_key(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read_card(write_card(tmp_path / "card", **content))


def test_a_card_for_an_archive_needs_no_classes():
    assert Card.model_validate({"name": "own", "loader": "archive", "files": {"archive": FILE}}).classes == []


@pytest.mark.parametrize("data", [b"", b"just text", b"\xff\xfe\x00", b"a: [", b"Rar!\x1a\x07\x00"])
def test_what_is_no_data_set_is_refused(tmp_path, data):
    (tmp_path / "odd").write_bytes(data)
    with pytest.raises(UserError, match=r"is neither a folder, nor a \.zip or \.tar archive, nor a card"):
        read_card(tmp_path / "odd")
