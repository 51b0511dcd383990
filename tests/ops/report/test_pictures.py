"""ops.report.pictures: two states beside each other."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ops.report.pictures import GAP, LABEL, WIDTH, Predictions, confusion_matrix, confusion_pair, side_by_side
from stages.core.outputs import write_table

HALF = (WIDTH - GAP) // 2


def predictions(path: Path, classes: list[str], pairs: list[tuple[int, int]]) -> Predictions:
    write_table(path, [{"class": classes[a], "predicted": classes[b]} for a, b in pairs])
    return Predictions(path, classes)


def test_the_matrix_counts_classes_by_predictions_in_the_order_of_the_labels(tmp_path):
    table = predictions(tmp_path / "p.csv", ["zebra", "<cat>", "dog"], [(0, 0), (0, 1), (1, 1), (1, 1), (2, 0)])
    matrix, names = confusion_matrix(table)
    assert matrix.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert (names[0], names[2]) == ("zebra", "dog")


@pytest.mark.parametrize("count", [2, 12, 100])
def test_two_confusion_matrices_fill_the_width_half_each(tmp_path, count):
    classes = [f"class $x {k}" for k in range(count)]
    left = predictions(tmp_path / "a.csv", classes, [(k, k) for k in range(count)])
    right = predictions(tmp_path / "b.csv", classes[: count // 2 + 1], [(k, 0) for k in range(count // 2 + 1)])
    confusion_pair(left, right, ("base 1234567", "this"), tmp_path / "pair.png")
    picture = np.asarray(Image.open(tmp_path / "pair.png").convert("L")).astype(int)
    assert picture.shape[1] == WIDTH
    assert (picture[:, WIDTH // 2 - 2 : WIDTH // 2 + 2] == 255).all()  # nothing crosses the middle
    assert all((half < 100).any() for half in (picture[:, : WIDTH // 2], picture[:, WIDTH // 2 :]))


@pytest.mark.parametrize(
    ("sides", "shown"), [((2000, 100), (HALF, 800)), ((HALF, HALF), (HALF, HALF)), ((500, 40), (500, 800))]
)
def test_pictures_are_reduced_or_enlarged_to_their_half_under_their_names(tmp_path, sides, shown):
    for name, side, grey in (("left", sides[0], 0), ("right", sides[1], 100)):
        Image.new("L", (side, side), grey).save(tmp_path / f"{name}.png")
    side_by_side(tmp_path / "left.png", tmp_path / "right.png", ("base 1234567", "this"), tmp_path / "pair.png")
    picture = np.asarray(Image.open(tmp_path / "pair.png").convert("L"))
    assert picture.shape == (LABEL + max(shown), WIDTH)
    below = picture[LABEL:]
    assert (below[:, : WIDTH // 2] == 0).sum() == shown[0] ** 2
    assert (below[:, WIDTH // 2 :] == 100).sum() == shown[1] ** 2
    labels = picture[:LABEL]
    assert (labels[:, : WIDTH // 2] < 128).any()
    assert (labels[:, WIDTH // 2 :] < 128).any()
