"""stages.lib.evaluation_report: every figure and picture is in the report."""

import re

import pytest

from stages.lib.evaluation_report import CLASSIFIER, write_report
from tests.conftest import ROOT

GAN = dict.fromkeys(
    ("fd", "fd_floor", "kid", "kid_error", "precision", "recall", "label_accuracy", "label_accuracy_real", "cas"), 0.25
)


@pytest.mark.parametrize("conditional", [True, False])
def test_says_what_the_figures_of_a_generator_without_classes_are_worth(conditional):
    report = write_report({"cnn": {"accuracy": 0.5}, "gan": GAN}, 100, 50, conditional, 0.01)
    assert "100 test images" in report
    assert "50 generated" in report
    assert ("those of chance" in report) is not conditional


def test_figures_stand_with_their_intervals_and_absent_ones_are_left_out():
    cnn = {"accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75, "aurc": 0.125}
    report = write_report({"cnn": cnn, "gan": GAN}, 100, 50, True, 0.01)
    assert "| accuracy | 0.5000 | 0.2500 to 0.7500 | share of images classified right |" in report
    assert "| AURC | 0.12500 |  | " in report
    assert "corrupted accuracy" not in report


def test_what_the_second_ruler_says_stands_beside_the_first_and_so_does_what_real_images_have():
    gan = GAN | {"fd": 2.0, "fd_second": 3.0, "fd_floor": 0.5, "fd_floor_second": 0.75, "near_copies": 0.02}
    gan |= {"kid_low": -0.5, "kid_high": 1.0, "coverage": 0.9, "coverage_expected": 0.97}
    report = write_report({"cnn": {"accuracy": 0.5}, "gan": gan}, 100, 50, True, 0.01)
    assert "| FD | 2.000 | 3.000 (real 0.750) | 0.500 | " in report
    assert "| KID | 0.2500 (-0.5000 to 1.0000) |  | 0 | " in report
    assert "| coverage | 0.900 |  | 0.970 | " in report
    assert "| near copies | 0.0200 |  | 0.01 | " in report
    assert "density" not in report


def test_every_file_that_it_shows_is_an_output_of_the_stage():
    report = write_report({"cnn": dict.fromkeys(CLASSIFIER, 0.5), "gan": GAN}, 100, 50, True, 0.01)
    listed = set(re.findall(r"data/evaluate/([\w.]+)", (ROOT / "dvc.yaml").read_text(encoding="utf-8")))
    shown = re.findall(r"\]\(([\w.]+)\)", report)
    assert len(shown) == len(set(shown))
    assert set(shown) == listed - {"predictions.csv", "serving.npz", "report.md", "metrics.json"}
