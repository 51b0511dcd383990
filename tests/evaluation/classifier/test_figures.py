"""stages.evaluation.classifier.figures: each picture is drawn, whatever there is to show."""

import numpy as np
import pytest
from PIL import Image

from stages.evaluation.classifier import figures
from stages.evaluation.classifier.selective import risk_coverage

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)


def probabilities_with(mistakes: int) -> tuple[np.ndarray, np.ndarray]:
    """Of 20 images of two classes, the first `mistakes` of which are wrong, the later the more confident."""
    labels = np.arange(20) % 2
    predicted = np.where(np.arange(20) < mistakes, 1 - labels, labels)
    confidence = np.linspace(0.6, 0.9, 20)[:, None]
    return np.where(np.eye(2)[predicted] > 0, confidence, 1 - confidence), labels


def test_worst_mistakes_are_the_most_confident():
    assert figures.worst_mistakes(*probabilities_with(4)).tolist() == [3, 2, 1, 0]
    assert figures.worst_mistakes(*probabilities_with(0)).tolist() == []


@pytest.mark.parametrize("mistakes", [0, 3])
def test_pictures_are_drawn_with_and_without_mistakes(tmp_path, mistakes):
    probabilities, labels = probabilities_with(mistakes)
    figures.draw_classifier(tmp_path, IMAGES, labels, probabilities, ["cat", "dog"])
    pairs = [(0, 1), (1, 0)] if mistakes else []
    figures.draw_confusions(tmp_path / "confusions.png", IMAGES, labels, probabilities, ["cat", "dog"], pairs)
    nearest = np.zeros((mistakes, 4, 8, 8, 3), np.uint8)
    figures.draw_nearest(tmp_path / "nearest.png", IMAGES[:mistakes], nearest, [["cat > dog", *"abcd"]] * mistakes)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"confusion.png", "reliability.png", "mistakes.png", "confusions.png", "nearest.png"}


def outliers(path):
    scores = {"test images": RANDOM.normal(0, 1, 50), "noise": RANDOM.normal(3, 1, 50), "photos": np.full(50, 2.0)}
    figures.draw_outliers(path, scores, 1.5, "energy")


def coverage(path):
    confidence, hits = np.linspace(1, 0, 200), np.arange(200) % 7 > 0
    figures.draw_risk_coverage(path, *risk_coverage(confidence, hits), 0.1, 0.01)


def no_mistakes(path):
    figures.draw_risk_coverage(path, np.linspace(0.1, 1, 10), np.zeros(10), 0, 0)


@pytest.mark.parametrize("draw", [outliers, coverage, no_mistakes])
def test_nothing_is_cut_off(draw, tmp_path):
    draw(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (rim == 255).all()
    assert len(np.unique(pixels)) > 2


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (10, 1), (13, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_evidence_stands_below_each_image(tmp_path, count, rows, channels):
    images = np.full((count, 8, 8, channels), 10, np.uint8)
    heat = np.full((count, 8, 8, 3), (200, 40, 90), np.uint8)
    figures.draw_evidence(tmp_path / "a.png", images, heat, [f"class {k}" for k in range(count)])
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture)
    side = 100 // 8 * 8
    assert (pixels == (200, 40, 90)).all(axis=2).sum() == (pixels == (10, 10, 10)).all(axis=2).sum() == count * side**2
    where = np.flatnonzero((pixels == (200, 40, 90)).all(axis=2).any(axis=1))
    assert len(where) == rows * side


def test_corruptions_are_drawn_with_and_without_accuracies(tmp_path):
    examples = {"clean": IMAGES[0], "shot_noise": IMAGES[1]}
    figures.draw_corruptions(tmp_path / "a.png", examples, {"clean": 1.0, "shot_noise": 0.5})
    figures.draw_corruptions(tmp_path / "b.png", examples, {})
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
