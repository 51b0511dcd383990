"""ops.report.data: every image added, removed, relabelled, moved or rejected is found, counted and shown."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ops.pages.document import Picture, Section, Table
from ops.report.data import COUNTS, MANIFEST, changes, read_manifest, section
from stages.core.dataset import SCHEMA
from tests.conftest import tiny_ingest


def frame(*rows: tuple[str, str, str, str | None]) -> pd.DataFrame:
    """A manifest of (pixels, class, split, reason); the source is named after the position."""
    table = pd.DataFrame(rows, columns=["sha256", "class", "split", "reason"], dtype=object)
    return table.assign(source=[f"{row[1]}/{k}.png" for k, row in enumerate(rows)], position=range(len(rows)))


BASE = frame(
    ("a", "cat", "train", None),
    ("b", "cat", "train", None),
    ("c", "dog", "train", None),
    ("d", "dog", "test", None),
    ("e", "dog", "test", None),
)


def test_nothing_changed_says_nothing():
    found = changes(BASE, BASE)
    assert not found.any
    assert found.sentence() == ""
    assert section(found, BASE, Path()) is None


def test_every_kind_of_change_is_counted_by_class():
    now = frame(
        ("a", "dog", "train", None),  # relabelled
        ("c", "dog", "train", None),
        ("d", "dog", "val", None),  # moved
        ("x", "cat", "train", None),  # added
        ("y", "emu", "train", None),  # added, of a new class
        ("c", "cat", "train", "duplicate of dog/1.png (class dog)"),  # left out
    )  # b and e are gone
    found = changes(BASE, now)
    assert [[*rows["sha256"]] for rows in found[1:]] == [["x", "y"], ["b", "e"], ["a"], ["d"], ["c"]]
    assert [*found.relabelled["class_base"]] == ["cat"]
    expected = {"cat": (2, 1, 1, 1, 0, 1, 0), "dog": (3, 3, 0, 1, 1, 0, 1), "emu": (0, 1, 1, 0, 0, 0, 0)}
    counts = {name: tuple(values) for name, values in found.counts[["base", "this", *COUNTS]].iterrows()}
    assert counts == expected
    assert found.sentence() == "2 images added, 2 removed, 1 relabelled in 3 classes"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([("x", "cat", "train", None)], "1 image added in class cat"),
        ([("x", "cat", "train", None), ("y", "cat", "val", None)], "2 images added in class cat"),
        ([("a", "cat", "train", "duplicate of cat/0.png")], "1 more file left out"),
    ],
)
def test_the_sentence_names_a_single_class(rows, says):
    assert changes(BASE, pd.concat([BASE, frame(*rows)])).sentence() == says


def test_counts_add_up_for_random_manifests():
    random = np.random.default_rng(0)
    before, after = (
        frame(*((str(k), f"class {random.integers(9)}", "train", None) for k in random.permutation(400)[:300]))
        for _ in range(2)
    )
    counts = changes(before, after).counts
    gained = counts["added"] + counts["relabelled to it"]
    lost = counts["removed"] + counts["relabelled away"]
    assert (counts["this"] - counts["base"] == gained - lost).all()
    assert counts["relabelled to it"].sum() == counts["relabelled away"].sum()


def test_the_table_shows_the_classes_that_changed_most_and_the_rest_as_one():
    rows = [(f"{name}-{k}", f"class {name:02d}", "train", None) for name in range(30) for k in range(name + 1)]
    base = frame(*rows)
    written = section(changes(base, base.iloc[:0]), base.iloc[:0], Path())
    assert isinstance(written, Section)
    table = written.blocks[0]
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows[:2]] == ["class 29", "class 28"]
    assert len(table.rows) == 22
    assert table.rows[20][3] == "-55"  # 1 + 2 + ... + 10
    assert table.rows[21][3] == "-465"


def test_pictures_show_the_images_concerned(tmp_path, monkeypatch):
    """Pixels of the pictures are those of the images, found by their place in the shards."""
    monkeypatch.chdir(tmp_path)
    folder = tiny_ingest(tmp_path, size=8, train=4, val=2, test=2)
    now = read_manifest(Path(MANIFEST))
    base = now.drop(index=[5, 20]).assign(**{"class": lambda t: t["class"].mask(t.index == 3, "cup")})
    manifest = pq.read_table(folder / "manifest.parquet").to_pylist()
    extra = [
        {**manifest[7], "source": "train/box/copy.png", "reason": "duplicate of train/box/00002.png"},
        {**manifest[0], "source": "train/ball/bad.png", "sha256": None, "reason": "damaged: cut off"},
    ]
    pq.write_table(pa.Table.from_pylist(manifest + extra, schema=SCHEMA), folder / "manifest.parquet")
    now = read_manifest(Path(MANIFEST))
    written = section(changes(base, now), now, tmp_path)
    assert written is not None
    assert [block.name for block in written.blocks if isinstance(block, Picture)] == [
        "added.png",
        "relabelled.png",
        "rejected.png",
    ]
    train, test = (np.load(folder / f"{split}-00000.npy") for split in ("train", "test"))
    # Image 20 of the manifest is the third of the test split.
    expected = {"added.png": [train[5], test[2]], "relabelled.png": [train[3]], "rejected.png": [train[7]]}
    for name, images in expected.items():
        picture = np.asarray(Image.open(tmp_path / name).convert("L"))
        for column, image in enumerate(images):
            shown = picture[4 : 4 + 112, 4 + column * 116 : 4 + column * 116 + 112]
            assert np.array_equal(shown[7::14, 7::14], image[..., 0]), name
    table = next(block for block in written.blocks[-3:] if isinstance(block, Table))
    assert [row[2] for row in table.rows] == ["duplicate of train/box/00002.png", "damaged: cut off"]
