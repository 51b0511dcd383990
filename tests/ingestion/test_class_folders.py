"""stages.ingestion.class_folders: how folders become classes and splits."""

import pytest

from stages.ingestion.class_folders import arrange
from stages.running.terminal import UserError


def files(*paths: str) -> dict:
    return dict.fromkeys(paths, "a payload")


def placed(source) -> list[tuple]:
    return [(item.source, item.split, source.classes[item.label]) for item in source.items]


def test_one_folder_per_class():
    source = arrange("pets", files("dog/b.png", "cat/a.JPG", "cat/more/c.png"))
    assert source.classes == ["cat", "dog"]
    assert placed(source) == [("cat/a.JPG", None, "cat"), ("cat/more/c.png", None, "cat"), ("dog/b.png", None, "dog")]


def test_splits_are_respected():
    source = arrange("pets", files("train/dog/a.png", "train/cat/a.png", "test/cat/b.png", "val/dog/c.png"))
    assert {(path, split) for path, split, _ in placed(source)} == {
        ("train/dog/a.png", "train"), ("train/cat/a.png", "train"), ("test/cat/b.png", "test"), ("val/dog/c.png", "val")
    }  # fmt: skip


@pytest.mark.parametrize(
    "names", [("Train", "Test", "VAL"), ("training", "testing", "valid"), ("TRAIN", "test", "Validation")]
)
def test_splits_go_by_several_names_in_any_case(names):
    train, test, val = names
    source = arrange("pets", files(f"{train}/dog/a.png", f"{train}/cat/a.png", f"{test}/cat/b.png", f"{val}/dog/c.png"))
    assert source.classes == ["cat", "dog"]
    assert {(path, split) for path, split, _ in placed(source)} == {
        (f"{train}/dog/a.png", "train"), (f"{train}/cat/a.png", "train"),
        (f"{test}/cat/b.png", "test"), (f"{val}/dog/c.png", "val"),
    }  # fmt: skip


def test_a_name_without_a_dot_is_no_image():
    source = arrange("pets", files("a/x.png", "b/x.png", "a/README", "a/png", "b/x."))
    assert source.left_out == [(path, "not an image file (no extension)") for path in ("a/README", "a/png")] + [
        ("b/x.", "not an image file (.)")
    ]


def test_a_folder_around_everything_is_tolerated():
    source = arrange("pets.zip", files("pets/train/dog/a.png", "pets/train/cat/a.png", "pets/README.txt"))
    assert placed(source)[0] == ("pets/train/cat/a.png", "train", "cat")
    assert source.left_out == [("pets/README.txt", "not inside a class folder")]


def test_trains_can_be_a_class():
    source = arrange("vehicles", files("train/a.png", "bus/a.png"))
    assert placed(source) == [("bus/a.png", None, "bus"), ("train/a.png", None, "train")]


def test_system_files_are_ignored_and_others_left_out_with_a_reason():
    source = arrange(
        "pets",
        files("a/x.png", "b/x.png", "a/.DS_Store", "a/Thumbs.db", "__MACOSX/a/x.png", ".git/x.png", "a/x.txt", "x.png"),
    )
    assert source.left_out == [("a/x.txt", "not an image file (.txt)"), ("x.png", "not inside a class folder")]
    assert len(source.items) == 2


@pytest.mark.parametrize(
    ("paths", "folders", "message"),
    [
        (("a/x.png",), (), "a single class, `a`"),
        ((), (), "holds no images in class folders"),
        (("x.png",), (), "holds no images in class folders"),
        (("a/x.png", "b/x.png"), ("c",), "class folder `c` holds no images"),
        (("a/x.png", "b/x.txt"), (), "class folder `b` holds no images"),
        (("train/a/x.png", "train/b/x.png"), ("train/a", "train/b", "test/a"), "class folder `test/a` holds no images"),
        (("train/a/x.png", "train/b/x.png", "test/c/x.png"), (), "class `c` has no folder in train/"),
        (("train/a/x.png", "train/b/x.png", "extra/a/x.png"), (), "a folder `extra` next to `train`"),
        (("Train/a/x.png", "Train/b/x.png", "Testing/c/x.png"), (), "class `c` has no folder in train/"),
        (("test/a/x.png", "test/b/x.png"), (), "a folder `test` but no `train`"),
        (("train/x.png", "test/x.png"), (), "images directly in test/"),
        (("Cat/x.png", "cat/x.png"), (), "`Cat` and `cat` differ in case only"),
        (("cat/x.png", "cat /x.png"), (), "`cat` and `cat ` differ in spaces or case only"),
    ],
)
def test_unusable_data_sets_are_refused_in_one_sentence(paths, folders, message):
    with pytest.raises(UserError, match=message) as caught:
        arrange("pets", files(*paths), folders)
    assert "\n" not in str(caught.value)


def test_any_name_can_be_a_class():
    names = ["été", "猫", "<script>", "two words", "line\nbreak", "100%", "no"]
    assert arrange("odd", files(*(f"{name}/x.png" for name in names))).classes == sorted(names)
