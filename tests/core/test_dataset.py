"""stages.core.dataset: shards, labels and digests come back as they were written."""

from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core import dataset
from stages.core.dataset import (
    SCHEMA,
    Images,
    ShardWriter,
    check_side,
    digest,
    open_shards,
    pick,
    read_classes,
    read_images,
    read_labels,
    read_origins,
    require,
)
from stages.running.terminal import UserError
from tests.conftest import tiny_ingest

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
SIX_IMAGES = 6 * 16 / 2**20  # MiB


@pytest.mark.parametrize("chunks", [[20], [1] * 20, [3, 9, 8], [6, 6, 6, 2], [7, 13]])
def test_shards_have_one_size_however_the_images_arrive(tmp_path, chunks):
    writer = ShardWriter(tmp_path, "train", SIX_IMAGES)
    for chunk in np.split(IMAGES, np.cumsum(chunks)[:-1]):
        writer.append(chunk)
    writer.close()
    writer.close()
    assert [len(shard) for shard in open_shards(tmp_path, "train")] == [6, 6, 6, 2]
    assert sorted(p.name for p in tmp_path.iterdir())[-1] == "train-00003.npy"
    np.testing.assert_array_equal(read_images(tmp_path, "train"), IMAGES)
    np.testing.assert_array_equal(np.concatenate(open_shards(tmp_path, "train")), IMAGES)


def test_a_shard_has_the_bytes_that_numpy_gives_it(tmp_path):
    with closing(ShardWriter(tmp_path, "train", SIX_IMAGES)) as writer:
        for image in IMAGES[:10]:
            writer.append(image[None])
    for name, images in (("train-00000.npy", IMAGES[:6]), ("train-00001.npy", IMAGES[6:10])):
        np.save(tmp_path / "saved.npy", images)
        assert (tmp_path / name).read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_a_shard_that_a_disk_has_no_room_for_is_given_up(tmp_path):
    (tmp_path / "train-00000.npy").symlink_to("/dev/full")
    writer = ShardWriter(tmp_path, "train", SIX_IMAGES)
    with pytest.raises(OSError, match="No space left"), closing(writer):
        writer.append(IMAGES[:6])


def test_images_on_the_disk_are_those_of_an_array(tmp_path, monkeypatch):
    writer = ShardWriter(tmp_path, "train", SIX_IMAGES)
    writer.append(IMAGES)
    writer.close()
    images = Images(tmp_path, "train")
    assert images.shape == IMAGES.shape
    assert len(images) == 20
    for positions in (np.array([19, 0, 7, 7]), slice(4, 15), slice(0), 6, np.int64(18), np.array([], int)):
        np.testing.assert_array_equal(images[positions], IMAGES[positions])
    monkeypatch.setattr("stages.core.dataset.IMAGES_AT_A_TIME", 8)
    sizes = []

    def network(piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sizes.append(len(piece))
        return piece.sum(axis=(1, 2)), piece[:, 0, 0]

    sums, corners = images.through(network)
    assert sizes == [8, 8, 4]
    np.testing.assert_array_equal(sums, IMAGES.sum(axis=(1, 2)))
    np.testing.assert_array_equal(corners, IMAGES[:, 0, 0])
    sizes.clear()
    sums, _ = images.through(network, every=3)
    assert sizes == [7]
    np.testing.assert_array_equal(sums, IMAGES[::3].sum(axis=(1, 2)))
    flat = SimpleNamespace(predict=lambda piece, batch_size, verbose: piece.reshape(len(piece), -1))
    np.testing.assert_array_equal(images.predict(flat), IMAGES.reshape(20, -1))


def test_an_image_larger_than_a_shard_has_one_of_its_own(tmp_path):
    writer = ShardWriter(tmp_path, "test", 1e-9)
    writer.append(IMAGES[:3])
    assert [len(shard) for shard in open_shards(tmp_path, "test")] == [1, 1, 1]


@pytest.mark.parametrize("images", [IMAGES.astype(np.float32), IMAGES[0]])
def test_only_uint8_images_are_written(tmp_path, images):
    with pytest.raises(ValueError, match="expected uint8"):
        ShardWriter(tmp_path, "train", 1).append(images)


def test_an_empty_split_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"holds no val images: .* raise ingest.val_fraction"):
        open_shards(tmp_path, "val")


def test_labels_are_in_the_order_of_the_images_whatever_lies_between(tmp_path):
    rows = [
        {"split": "train", "label": 2, "reason": None},
        {"split": "test", "label": 1, "reason": None},
        {"split": "train", "label": 1, "reason": "duplicate of a.png"},
        {"split": None, "label": None, "reason": "cannot be decoded"},
        {"split": "train", "label": 0, "reason": None},
        {"split": "train", "label": 2, "reason": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "manifest.parquet")
    labels = read_labels(tmp_path, "train")
    assert labels.tolist() == [2, 0, 2]
    assert labels.dtype == np.int32
    assert read_labels(tmp_path, "test").tolist() == [1]
    assert read_labels(tmp_path, "val").tolist() == []


def test_class_names_of_any_script(tmp_path):
    assert read_classes(tiny_ingest(tmp_path, classes=("猫", "a b\n<c>"))) == ["猫", "a b\n<c>"]


def test_the_smallest_side_is_named(tmp_path):
    folder = tiny_ingest(tmp_path, size=8)
    check_side(folder, "cnn.arch: compact", 8)
    with pytest.raises(UserError, match=r"8x8 px, and `cnn.arch: article` needs at least 10x10: set `ingest.image_si"):
        check_side(folder, "cnn.arch: article", 10)


def test_the_digest_is_of_names_and_bytes_alone(tmp_path):
    def folder(name: str, files: dict[str, bytes]) -> str:
        for path, content in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_bytes(content)
        return digest(tmp_path / name)

    first = folder("a", {"x": b"1", "y/z": b"2"})
    assert folder("b", {"y/z": b"2", "x": b"1"}) == first
    others = [
        folder("c", {"x": b"1", "y/z": b"3"}),
        folder("d", {"x": b"1", "y/w": b"2"}),
        folder("e", {"x": b"1", "y/z": b"2", "v": b""}),
        folder("f", {"x": b"1"}),
        folder("g", {"x": b"2", "y/z": b"1"}),
    ]
    assert len({first, *others}) == 6


def test_images_are_picked_across_shards_in_the_order_asked_for(tmp_path):
    writer = ShardWriter(tmp_path, "train", SIX_IMAGES)
    writer.append(IMAGES)
    writer.close()
    positions = [19, 0, 6, 5, 6]
    shards = open_shards(tmp_path, "train")
    np.testing.assert_array_equal(pick(shards, positions), IMAGES[positions])
    for outside in ([0, 20], [-1, 3]):
        with pytest.raises(IndexError, match="expected 0 to 19"):
            pick(shards, outside)


def test_what_an_earlier_stage_should_have_made_is_missed_in_one_sentence(tmp_path):
    require(tmp_path)
    for ask in (
        require,
        lambda path: open_shards(path, "train"),
        lambda path: read_labels(path, "train"),
        read_classes,
    ):
        with pytest.raises(UserError, match=r"absent.* not found: run `dvc repro`"):
            ask(tmp_path / "absent")


def test_origins_stand_beside_the_labels(tmp_path):
    folder = tiny_ingest(tmp_path, classes=("ball", "box"))
    for split in ("train", "val", "test"):
        labels = read_labels(folder, split)
        chosen = np.arange(len(labels))[::-2]
        assert [name.split("/")[:2] for name in read_origins(folder, split, chosen)] == [
            [split, ("ball", "box")[label]] for label in labels[chosen]
        ]
        assert read_origins(folder, split, chosen[:0]) == []


def test_origins_are_found_across_the_pieces_that_are_read(tmp_path, monkeypatch):
    folder = tiny_ingest(tmp_path, classes=("ball", "box"))
    count = len(read_labels(folder, "train"))
    chosen = np.random.default_rng(0).permutation(count)
    at_once = read_origins(folder, "train", chosen)
    monkeypatch.setattr(dataset, "ROWS_AT_A_TIME", 3)
    assert read_origins(folder, "train", chosen) == at_once
    assert len({*at_once}) == count > 3
