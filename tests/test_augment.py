"""The augment stage, run on a tiny data set."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages import augment
from stages.core.dataset import digest, read_images, shard_paths
from stages.running.terminal import UserError
from tests.conftest import tiny_ingest

OFF = {"flip": 0, "shift": 0, "rotation": 0, "zoom": 0, "contrast": 0, "brightness": 0, "noise": 0, "erasing": 0}
ALL = {
    "flip": 0.5,
    "shift": 0.1,
    "rotation": 15,
    "zoom": 0.1,
    "contrast": 0.2,
    "brightness": 0.1,
    "noise": 5,
    "erasing": 0.5,
}


def prepare(project: Path, shard_mib: float = 1, **changes: object) -> None:
    """Writes a data set that passed validation, and params with the changes."""
    tiny_ingest(project, train=60, shard_mib=shard_mib, channels=3)
    (project / "data" / "validate").mkdir()
    (project / "data" / "validate" / "passed").write_text("yes\n")
    change_params(project, **changes)


def change_params(project: Path, **changes: object) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["augment"].update(changes)
    (project / "params.yaml").write_text(yaml.safe_dump(params))


def picture_size() -> tuple[int, int]:
    with Image.open("data/augment/before_after.png") as picture:
        return picture.size


def test_everything_off_gives_exact_copies(project: Path) -> None:
    prepare(project, views=2, **OFF)
    augment.main()
    for view in ("view-00", "view-01"):
        original, copy = project / "data/ingest/train-00000.npy", project / "data/augment" / view / "train-00000.npy"
        assert copy.read_bytes() == original.read_bytes()
    assert sorted(path.name for path in (project / "data/augment").iterdir()) == [
        "before_after.png",
        "view-00",
        "view-01",
    ]


def test_views_differ_and_the_same_inputs_give_the_same_bytes(project: Path) -> None:
    prepare(project, views=3, **ALL)
    augment.main()
    first = digest("data/augment")
    views = [read_images(f"data/augment/view-{view:02d}", "train") for view in range(3)]
    assert all((views[a] != views[b]).any() for a, b in ((0, 1), (0, 2), (1, 2)))
    augment.main()
    assert digest("data/augment") == first
    change_params(project, seed=1)
    augment.main()
    assert digest("data/augment") != first


def test_shards_are_those_of_the_train_split_and_their_size_changes_no_image(project: Path) -> None:
    prepare(project, views=2, **ALL)
    augment.main()
    whole = read_images("data/augment/view-01", "train")
    (project / "data").rename(project / "old")
    prepare(project, shard_mib=0.03, views=2, **ALL)
    augment.main()
    names = [path.name for path in shard_paths("data/ingest", "train")]
    assert len(names) > 2
    assert [path.name for path in shard_paths("data/augment/view-01", "train")] == names
    np.testing.assert_array_equal(read_images("data/augment/view-01", "train"), whole)


def test_one_view_more_leaves_the_others_as_they_are(project: Path) -> None:
    prepare(project, views=2, **ALL)
    augment.main()
    before = digest("data/augment/view-00"), digest("data/augment/view-01")
    change_params(project, views=3)
    augment.main()
    assert (digest("data/augment/view-00"), digest("data/augment/view-01")) == before


def test_the_picture_has_a_row_per_class_and_a_column_per_view(project: Path) -> None:
    prepare(project, views=4)
    augment.main()
    few = picture_size()
    change_params(project, views=6)
    augment.main()
    many = picture_size()
    assert many[0] > few[0]
    assert many[1] == few[1]


def test_says_what_it_did(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(project, views=2)
    augment.main()
    said = capsys.readouterr().out
    assert "2 augmented versions of 180 train images (shift, rotation, zoom, contrast)" in said
    assert "data/augment/before_after.png" in said


def test_data_that_was_not_validated_is_refused(project: Path) -> None:
    tiny_ingest(project)
    with pytest.raises(UserError, match="data/validate/passed not found"):
        augment.main()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": 0}, "`augment.views` is 0"),
        ({"flip": 1.5}, "`augment.flip` is 1.5"),
        ({"border": "white"}, "`augment.border` is 'white'"),
        ({"rotate": 3}, "`augment.rotate` is not a param"),
    ],
)
def test_a_wrong_param_is_named(project: Path, changes: dict[str, object], message: str) -> None:
    change_params(project, **changes)
    with pytest.raises(UserError, match=message):
        augment.main()
