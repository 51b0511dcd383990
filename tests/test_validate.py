"""The validate stage: each expectation fails on data made to break it, and the outputs are the same each time."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from stages import validate
from stages.core import dataset
from stages.running.terminal import UserError
from tests.conftest import tiny_ingest

OUTPUT, FAILED = Path("data/validate"), Path(".visionloop/validate")


def change_params(**changes: object) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["validate"].update(changes)
    Path("params.yaml").write_text(yaml.safe_dump(params))


def change_manifest(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = Path("data/ingest/manifest.parquet")
    table = pa.Table.from_pandas(change(pq.read_table(path).to_pandas()), dataset.SCHEMA, preserve_index=False)
    pq.write_table(table, path)


def failures() -> dict[str, dict]:
    """Runs the stage on data it must refuse; returns what failed, by table and column."""
    with pytest.raises(UserError, match="expectations"):
        validate.main()
    report = json.loads((FAILED / "report.json").read_text())
    assert not report["success"]
    return {row["where"]: row for row in report["expectations"] if not row["success"]}


def test_good_data_passes_with_the_default_thresholds(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_ingest(project)
    validate.main()
    assert (OUTPUT / "passed").read_text() == dataset.digest(folder) + "\n"
    report = json.loads((OUTPUT / "report.json").read_text())
    assert report["success"]
    assert len(report["expectations"]) == 18
    assert not FAILED.exists()
    said, noise = capsys.readouterr()
    assert "all 18 expectations met by 60 images in 3 classes" in said
    assert noise == ""


def test_the_same_data_gives_the_same_bytes_whatever_its_class_names(project: Path) -> None:
    tiny_ingest(project, classes=("<script>alert(1)</script>", "a & b", "$column 'é' \"q\""))
    validate.main()
    first = dataset.digest(OUTPUT)
    validate.main()
    assert dataset.digest(OUTPUT) == first


def test_class_names_are_harmless_in_the_data_docs(project: Path) -> None:
    tiny_ingest(project, classes=("<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "$PARAMETER"))
    change_params(min_images_per_class=100)
    failures()
    first = dataset.digest(FAILED)
    page = (FAILED / "docs" / "index.html").read_text()
    assert "\u2039script\u203aalert(1)\u2039/script\u203a" in page
    assert "\uff04PARAMETER" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    failures()
    assert dataset.digest(FAILED) == first


def test_the_data_docs_name_neither_time_nor_missing_pages(project: Path) -> None:
    tiny_ingest(project)
    validate.main()
    page = (OUTPUT / "docs" / "index.html").read_text()
    assert "each class has at least 10 train images" in page
    assert '"../' not in page
    assert "__none__" not in page


def test_a_failure_is_told_with_examples_and_leaves_no_pass(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_ingest(project)
    validate.main()
    change_params(min_images_per_class=13)
    capsys.readouterr()
    with pytest.raises(UserError, match=r"1 of 18 expectations.*\.visionloop/validate/docs/index\.html"):
        validate.main()
    told = capsys.readouterr().out
    assert "FAILED  3 of 3  each class has at least 13 train images [validate.min_images_per_class]" in told
    assert "ball, train_images 12" in told
    assert not OUTPUT.exists()
    assert "ball, train_images 12" in (FAILED / "docs" / "index.html").read_text()
    assert not (FAILED / "passed").exists()


def test_classes_are_compared_with_those_expected(project: Path) -> None:
    tiny_ingest(project)
    change_params(classes=["ball", "box", "lid"], min_images_per_class=1, max_absent_classes=1)
    failed = failures()
    assert set(failed) == {"classes.status", "classes.train_images", "classes.imbalance"}
    assert failed["classes.status"]["examples"] == ["cup, status not expected", "lid, status missing"]


def test_a_tiny_split(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_ingest(project, val=1)
    assert failures()["splits.images_in_manifest"]["examples"] == ["val, images_in_manifest 3"]
    assert "or raise ingest.val_fraction" in capsys.readouterr().out
    change_params(min_images_per_split=3)
    validate.main()


@pytest.mark.parametrize("split", ["val", "test"])
def test_classes_absent_from_a_split(project: Path, capsys: pytest.CaptureFixture[str], split: str) -> None:
    tiny_ingest(project)
    few = (f"{split}/ball", f"{split}/box")
    change_manifest(lambda t: t.assign(split=t["split"].mask(t["source"].str.startswith(few), "train")))
    change_params(min_images_per_split=1)
    row = failures()[f"classes.{split}_images"]
    assert row["examples"] == [f"ball, {split}_images 0", f"box, {split}_images 0"]
    assert (row["unexpected"], row["rows"]) == (2, 3)
    assert f"add images, or raise ingest.{split}_fraction) [validate.max_absent_classes]" in capsys.readouterr().out


def test_one_class_of_three_may_be_absent_from_val(project: Path) -> None:
    tiny_ingest(project)
    change_manifest(lambda t: t.assign(split=t["split"].mask(t["source"].str.startswith("val/ball"), "train")))
    assert "classes.val_images" not in failures()  # the arrays disagree with the manifest, and nothing else


def test_imbalance(project: Path) -> None:
    tiny_ingest(project)
    # Two train images of the first class, and twelve of the others.
    few = "train/ball/0000[1-9]|train/ball/000[123]"
    change_manifest(lambda t: t.assign(split=t["split"].mask(t["source"].str.contains(few), "val")))
    change_params(min_images_per_class=1, max_imbalance=10)
    failed = failures()
    assert failed["classes.imbalance"]["examples"] == ["ball, imbalance 12.0"]
    assert "splits.images_in_shards" in failed


def leave_out(table: pd.DataFrame, count: int, reason: str) -> pd.DataFrame:
    """`count` rows more, of files left out."""
    extra = table.tail(count).assign(reason=reason, source=[f"extra/{k}.png" for k in range(count)])
    return pd.concat([table, extra], ignore_index=True)


def test_duplicates(project: Path) -> None:
    tiny_ingest(project)
    change_manifest(lambda t: leave_out(t, 3, "duplicate of train/ball/00000.png"))
    validate.main()  # 3 of 63 are less than 0.05
    change_params(max_duplicates=0.04)
    row = failures()["files.outcome"]
    assert (row["unexpected"], row["rows"]) == (3, 63)
    assert row["examples"][0] == "extra/0.png, duplicate of train/ball/00000.png, outcome duplicate"


def test_rejected_files(project: Path) -> None:
    tiny_ingest(project)
    change_manifest(lambda t: leave_out(t, 1, "cannot be decoded: truncated").assign(sha256=None))
    row = failures()["files.outcome"]
    assert row["param"] == "validate.max_rejected"
    change_params(max_rejected=0.02)
    validate.main()


def test_files_outside_of_classes_count_neither_way(project: Path) -> None:
    tiny_ingest(project)
    nothing = {"label": None, "class": None, "split": None, "sha256": None}
    change_manifest(lambda t: pd.concat([t, leave_out(t, 5, "not an image file (.txt)").tail(5).assign(**nothing)]))
    validate.main()
    assert (project / "data/validate/passed").read_text().strip() == dataset.digest(project / "data/ingest")


def test_one_image_under_two_labels(project: Path) -> None:
    tiny_ingest(project)
    twin = {"label": 0, "class": "ball", "source": "twin.png", "reason": "duplicate of train/cup/00002.png (class cup)"}
    change_manifest(lambda t: pd.concat([t, t[t["label"] == 2].head(1).assign(**twin)], ignore_index=True))
    row = failures()["files.labels_of_its_pixels"]
    assert row["unexpected"] == 2
    assert row["observed"] == [1, 2]


def test_blank_images_and_brightness(project: Path) -> None:
    tiny_ingest(project)
    cup = "cup"
    change_manifest(
        lambda t: t.assign(std=t["std"].mask(t["id"] == 5, 0.5), mean=t["mean"].mask(t["class"] == cup, 254.0))
    )
    failed = failures()
    assert set(failed) == {"images.std", "classes.brightness", "classes.brightness_gap"}
    assert failed["images.std"]["examples"] == ["train/cup/00005.png, std 0.5"]


def test_labels_and_splits(project: Path) -> None:
    tiny_ingest(project)
    change_manifest(
        lambda t: t.assign(label=t["label"].mask(t["id"] == 5, 7), split=t["split"].mask(t["id"] == 8, "dev"))
    )
    assert set(failures()) == {"images.label", "images.class", "images.split", "splits.images_in_shards"}


def test_arrays_that_disagree_with_the_manifest(project: Path) -> None:
    folder = tiny_ingest(project)
    np.save(folder / "val-00000.npy", np.zeros((12, 12, 12, 1), np.float32))
    np.save(folder / "test-00000.npy", np.zeros((12, 12, 9, 1), np.uint8))
    (folder / "train-00000.npy").write_bytes((folder / "train-00000.npy").read_bytes()[:-1])
    failed = failures()
    assert failed["splits.images_in_shards"]["examples"] == ["train, images_in_shards 0, images_in_manifest 36"]
    assert failed["shards.dtype"]["unexpected"] == 2
    assert failed["shards.shape"]["unexpected"] == 2


def test_a_missing_data_set_is_one_sentence(project: Path) -> None:
    with pytest.raises(UserError, match=r"data/ingest/manifest\.parquet not found"):
        validate.main()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_blank": 2}, "`validate.max_blank` is 2"),
        ({"classes": ["one"]}, "`validate.classes`"),
        ({"max_blanks": 0.1}, "`validate.max_blanks` is not a param"),
    ],
)
def test_a_wrong_param_is_named(project: Path, changes: dict[str, object], message: str) -> None:
    shutil.rmtree("data", ignore_errors=True)
    change_params(**changes)
    with pytest.raises(UserError, match=message):
        validate.main()
