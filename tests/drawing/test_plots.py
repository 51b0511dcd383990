"""stages.drawing.plots: plots are drawn, and the same data gives the same bytes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.drawing.plots import confusion_picture, learning_curves, reliability_picture
from stages.evaluation.classifier.scores import calibration_bins, expected_calibration_error

HISTORY = [{"epoch": e, "loss": 1 / e, "val_nll": 1.2 / e, "accuracy": 1 - 0.5 / e} for e in range(1, 13)]


def confusion(classes: list[str]):
    return lambda path: confusion_picture(np.diag(np.arange(1, len(classes) + 1)), classes, path)


def reliability(path: Path) -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(5, 0.3), 800)
    labels = random.integers(0, 5, 800)
    error = expected_calibration_error(probabilities, labels)
    reliability_picture(*calibration_bins(probabilities, labels), error, path)


def curves(path: Path) -> None:
    learning_curves(HISTORY, "epoch", {"loss": ["loss", "val_nll"], "accuracy": ["accuracy"]}, path, mark=9)


PICTURES = {
    "confusion of 2": confusion(["no", "yes"]),
    "confusion of 10": confusion([f"some species number {i}" for i in range(10)]),
    "confusion of 60": confusion([f"class {i}" for i in range(60)]),
    "reliability": reliability,
    "learning curves": curves,
}


@pytest.mark.parametrize("name", PICTURES)
def test_the_same_pictures_are_the_same_bytes_and_nothing_is_cut_off(tmp_path, name):
    PICTURES[name](tmp_path / "a.png")
    PICTURES[name](tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert set(picture.info) <= {"dpi"}
        pixels = np.asarray(picture.convert("L"))
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (rim == 255).all()
    assert pixels.shape[1] <= 1500


def test_a_style_of_the_user_changes_nothing(tmp_path):
    import matplotlib

    curves(tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.bbox": "tight"}):
        curves(tmp_path / "b.png")
        assert matplotlib.rcParams["font.size"] == 20
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("name", ["$x$ <script>", "$\\frac{1$", "猫", "a\nb\0\t", "x" * 500, "", "100%_#&{}^~\\"])
def test_class_names_of_any_kind(tmp_path, name):
    confusion_picture(np.array([[3, 1], [0, 4]]), [name, "other"], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width < 900


def test_names_are_text_and_not_mathematics(tmp_path):
    confusion_picture(np.eye(2, dtype=int), ["$x$", "b"], tmp_path / "a.png")
    confusion_picture(np.eye(2, dtype=int), ["x", "b"], tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as with_dollars, Image.open(tmp_path / "b.png") as without:
        ink = [(np.asarray(picture.convert("L")) < 128).sum() for picture in (with_dollars, without)]
    assert ink[0] > ink[1]


def test_one_epoch_and_few_images_can_be_drawn(tmp_path):
    learning_curves(HISTORY[:1], "epoch", {"loss": ["loss"]}, tmp_path / "a.png", mark=1)
    reliability_picture(*calibration_bins(np.eye(3), np.arange(3)), 0.0, tmp_path / "b.png")
    confusion_picture(np.zeros((3, 3), int), ["a", "b", "c"], tmp_path / "c.png")
    for name in ("a.png", "b.png", "c.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 200
            assert len(np.unique(np.asarray(picture.convert("L")))) > 2
