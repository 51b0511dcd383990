"""stages.ingest: the same bytes however it runs, and what is left out and why."""

import json
import multiprocessing
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from stages.core.dataset import SPLITS, digest, read_images
from stages.core.params import load_params
from stages.ingest import IngestParams, ingest, main
from stages.ingestion.class_folders import Source
from stages.ingestion.items import Item, Items
from stages.ingestion.shards import UnexpectedColour, write_as_planned
from stages.ingestion.sources import open_source
from stages.ingestion.splits import Splitter
from stages.ingestion.survey import survey
from stages.running.terminal import UserError, run_stage

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (60, 8, 8), np.uint8)


def params(**changes) -> IngestParams:
    return load_params(IngestParams, "ingest").model_copy(update=changes)


def source(images=IMAGES, splits=None, classes=("a", "b")) -> Source:
    items = [
        Item(f"{index:04d}", splits[index] if splits else None, index % len(classes), image)
        for index, image in enumerate(images)
    ]
    return Source(list(classes), items)


def run(data: Source, folder: Path, workers: int = 1, **changes) -> pa.Table:
    folder.mkdir(exist_ok=True)
    ingest(data, params(**changes), folder, workers)
    return pq.read_table(folder / "manifest.parquet")


def membership(manifest: pa.Table) -> dict[str, str]:
    return {row["sha256"]: row["split"] for row in manifest.to_pylist() if row["reason"] is None}


def test_shards_follow_the_manifest(tmp_path):
    manifest = run(source(), tmp_path, shard_mib=1)
    rows = manifest.to_pylist()
    assert [row["id"] for row in rows] == list(range(60))
    for split in SPLITS:
        expected = np.stack([IMAGES[int(row["source"])] for row in rows if row["split"] == split])
        np.testing.assert_array_equal(read_images(tmp_path, split)[..., 0], expected)
    for row in rows:
        image = IMAGES[int(row["source"])]
        assert (row["mean"], row["std"]) == (pytest.approx(image.mean()), pytest.approx(image.std()))
        assert (row["class"], row["label"]) == (["a", "b"][row["label"]], int(row["source"]) % 2)


def test_adding_images_moves_none(tmp_path):
    few = membership(run(source(IMAGES[:40]), tmp_path / "few"))
    many = membership(run(source(), tmp_path / "many"))
    assert few.items() <= many.items()
    assert len(many) == 60


def test_membership_does_not_depend_on_size_channels_or_names(tmp_path):
    plain = membership(run(source(), tmp_path / "plain"))
    assert membership(run(source(), tmp_path / "large", image_size=16, channels=3)) == plain
    assert membership(run(source(IMAGES[::-1]), tmp_path / "reversed")) == plain


def test_duplicates_are_left_out_and_named(tmp_path):
    manifest = run(source([*IMAGES, IMAGES[0], IMAGES[0]]), tmp_path)
    same_class, other_class = manifest.to_pylist()[-2:]
    assert same_class["reason"] == "duplicate of 0000"
    assert other_class["reason"] == "duplicate of 0000 (class a)"
    assert same_class["sha256"] == other_class["sha256"] == manifest["sha256"].to_pylist()[0]
    assert sum(len(read_images(tmp_path, split)) for split in SPLITS) == 60


def test_a_train_image_that_is_also_in_the_test_set_is_left_out_of_train(tmp_path):
    images = np.concatenate([IMAGES, IMAGES[:5]])
    splits = ["train"] * 60 + ["test"] * 5
    rows = {row["source"]: row for row in run(source(images, splits), tmp_path).to_pylist()}
    assert [rows[f"{i:04d}"]["reason"] for i in range(5)] == [f"duplicate of {60 + i:04d}" for i in range(5)]
    assert len(read_images(tmp_path, "test")) == 5


def test_official_splits_are_respected_and_only_val_is_carved(tmp_path):
    splits = ["train"] * 40 + ["test"] * 20
    rows = run(source(splits=splits), tmp_path, val_fraction=0.3).to_pylist()
    assert [row["source"] for row in rows if row["split"] == "test"] == [f"{i:04d}" for i in range(40, 60)]
    assert {row["split"] for row in rows} == {"train", "val", "test"}


def test_the_number_of_workers_changes_no_byte(tmp_path):
    images = RANDOM.integers(0, 256, (3100, 8, 8, 3), np.uint8)
    for workers in (1, 2):
        run(source(images), tmp_path / str(workers), workers)
    assert digest(tmp_path / "1") == digest(tmp_path / "2")


def test_channels_follow_the_data_even_when_colour_comes_late(tmp_path):
    colour = [*IMAGES, RANDOM.integers(0, 256, (8, 8, 3), np.uint8)]
    colour[1], colour[-1] = colour[-1], colour[1]  # not among those that the survey looks at
    run(source(colour), tmp_path / "colour")
    assert read_images(tmp_path / "colour", "train").shape[1:] == (8, 8, 3)
    run(source(colour), tmp_path / "grey", channels=1)
    assert read_images(tmp_path / "grey", "train").shape[1:] == (8, 8, 1)


def test_no_worker_outlives_the_grey_attempt(tmp_path):
    images = [*np.zeros((3100, 8, 8), np.uint8), RANDOM.integers(0, 256, (8, 8, 3), np.uint8)]
    images[1], images[-1] = images[-1], images[1]
    items = Items.of(source(images).items)
    before = {*multiprocessing.active_children()}
    # The error that is caught keeps the frames it went through, and what they hold.
    with pytest.raises(UnexpectedColour) as caught:
        write_as_planned(items, ["a", "b"], survey(items, None, None, "pad"), Splitter((), 0.2, 0.1), 1, tmp_path, 2)
    assert caught.traceback
    assert {*multiprocessing.active_children()} == before


def test_sizes_that_disagree_ask_for_a_number(tmp_path):
    mixed = [*IMAGES[:50], np.zeros((9, 8), np.uint8)]
    for images in (mixed, mixed[::-1], [mixed[0], mixed[-1], *mixed[1:-1]]):
        with pytest.raises(UserError, match=r"differ in size .* set ingest.image_size"):
            run(source(images), tmp_path)
    assert run(source(mixed), tmp_path, image_size=12).num_rows == 51


def test_equal_but_oblong_images_become_square(tmp_path):
    oblong = RANDOM.integers(0, 256, (40, 8, 12), np.uint8)
    for fit, size in (("pad", 12), ("crop", 8)):
        run(source(oblong), tmp_path, fit=fit)
        assert read_images(tmp_path, "train").shape[1:] == (size, size, 1)


def test_undecodable_images_stop_the_stage_or_are_listed(tmp_path):
    images = [*IMAGES, "damaged: a reason", "damaged: a reason"]
    with pytest.raises(UserError, match=r"2 of 62 images cannot be decoded.* 0060: damaged: a reason; 0061"):
        run(source(images), tmp_path)
    manifest = run(source(images), tmp_path, max_bad_fraction=0.05)
    assert manifest["reason"].to_pylist()[-2:] == ["damaged: a reason"] * 2
    assert manifest["sha256"].null_count == 2


def test_a_class_left_without_train_images_is_named(tmp_path):
    with pytest.raises(UserError, match=r"class `a` is left without train images \(1 in val and test\)"):
        run(source(IMAGES[:2], ["test", "train"]), tmp_path, val_fraction=0)
    with pytest.raises(UserError, match="2 of 2 images cannot be decoded"):
        run(source(["bad", "bad"]), tmp_path)


@pytest.mark.parametrize(
    ("splits", "changes", "message"),
    [
        (None, {"val_fraction": 0}, "in the val split: raise ingest.val_fraction, which is 0, or add images"),
        (None, {"test_fraction": 0}, "in the test split: raise ingest.test_fraction, which is 0,"),
        (["train", "train", "test"] * 20, {"val_fraction": 0}, "none of the 60 images is in the val split"),
        (["train", "train", "val"] * 20, {"test_fraction": 0}, "none of the 60 images is in the test split"),
    ],
)
def test_an_empty_split_is_named_with_its_param(tmp_path, splits, changes, message):
    with pytest.raises(UserError, match=message):
        run(source(splits=splits), tmp_path, **changes)


def test_fractions_of_0_are_fine_where_the_data_set_brings_its_splits(tmp_path):
    splits = ["train", "train", "val", "test"] * 15
    rows = run(source(splits=splits), tmp_path, val_fraction=0, test_fraction=0).to_pylist()
    assert sorted(row["split"] for row in rows) == sorted(splits)


def test_the_limit_takes_images_of_every_class(tmp_path):
    rows = run(source(classes=("a", "b", "c")), tmp_path, limit_per_class=10).to_pylist()
    assert [sum(row["class"] == name for row in rows) for name in "abc"] == [10, 10, 10]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project with a zip of images, among them a text named .png and a file that is no image."""
    (tmp_path / "params.yaml").write_text(Path("params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "data" / "raw").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISIONLOOP_TRACKING", "off")
    for index, image in enumerate(IMAGES):
        path = tmp_path / "data" / "raw" / "pets" / ("cat" if index % 2 else "<b>dog & co") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (tmp_path / "data" / "raw" / "pets" / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def set_params(project: Path, **changes) -> None:
    content = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    content["ingest"].update(changes)
    (project / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def test_the_stage_writes_all_it_promises_and_the_same_bytes_again(project, capsys):
    set_params(project, source="pets")
    main()
    first = digest("data/ingest")
    assert sorted(path.name for path in Path("data/ingest").iterdir()) == [
        "classes.json", "manifest.parquet", "preview.png", "test-00000.npy", "train-00000.npy", "val-00000.npy"
    ]  # fmt: skip
    assert json.loads(Path("data/ingest/classes.json").read_text(encoding="utf-8")) == ["<b>dog & co", "cat"]
    manifest = pq.read_table("data/ingest/manifest.parquet").to_pylist()
    assert manifest[-1]["reason"] == "not an image file (.txt)"
    said = capsys.readouterr().out
    assert "60 images of 2 classes, 8x8x1" in said
    assert "1 not an image file (.txt)" in said
    with zipfile.ZipFile("data/raw/pets.zip", "w") as archive:
        for path in sorted(Path("data/raw/pets").rglob("*.*")):
            archive.write(path, path.relative_to("data/raw/pets"))
    set_params(project, source="pets.zip")
    main()
    assert digest("data/ingest") == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "cats"}, "data/raw/cats not found"),
        ({"source": "../pets"}, "ingest.source"),
        ({"image_sise": 3}, "`ingest.image_sise` is not a param"),
        ({"image_size": 4}, "`ingest.image_size` is 4"),
        ({"channels": 2}, "`ingest.channels` is 2"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "must leave at least 0.1 for train"),
    ],
)
def test_wrong_params_end_in_one_sentence(project, capsys, changes, message):
    set_params(project, **({"source": "pets"} | changes))
    with pytest.raises(SystemExit):
        run_stage(main)
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not Path("data/ingest").exists()


def test_a_text_named_png_stops_the_stage_and_keeps_what_was_there(project, capsys):
    set_params(project, source="pets")
    main()
    before = digest("data/ingest")
    Path("data/raw/pets/cat/text.png").write_text("this is a text")
    with pytest.raises(SystemExit):
        run_stage(main)
    assert "1 of 61 images cannot be decoded" in capsys.readouterr().err
    assert digest("data/ingest") == before


def test_the_default_is_accepted_by_the_cards():
    with open_source(Path("data/raw/digits")) as digits:
        assert len(digits.items) == 1797
