"""stages.evaluation.generator.page: every figure and picture is on the page."""

import re

import pytest

from stages.evaluation.generator.page import write_page
from tests.conftest import ROOT

GAN = dict.fromkeys(
    ("fd", "fd_floor", "kid", "kid_error", "precision", "recall", "label_accuracy", "label_accuracy_real", "cas"), 0.25
)


@pytest.mark.parametrize("conditional", [True, False])
def test_says_what_the_figures_of_a_generator_without_classes_are_worth(conditional):
    page = write_page(GAN, 50, conditional, 0.01)
    assert "50 generated" in page
    assert ("those of chance" in page) is not conditional


def test_figures_of_the_second_reference_and_of_real_images_stand_beside_the_first():
    gan = GAN | {"fd": 2.0, "fd_second": 3.0, "fd_floor": 0.5, "fd_floor_second": 0.75, "near_copies": 0.02}
    gan |= {"kid_low": -0.5, "kid_high": 1.0, "coverage": 0.9, "coverage_expected": 0.97}
    page = write_page(gan, 50, True, 0.01)
    assert "| FD | 2.000 | 3.000 (real 0.750) | 0.500 | " in page
    assert "| KID | 0.2500 (-0.5000 to 1.0000) |  | 0 | " in page
    assert "| coverage | 0.900 |  | 0.970 | " in page
    assert "| near copies | 0.0200 |  | 0.01 | " in page
    assert "density" not in page


def test_every_file_that_it_shows_is_an_output_of_the_stage():
    listed = set(re.findall(r"data/evaluate_gan/([\w.]+)", (ROOT / "dvc.yaml").read_text(encoding="utf-8")))
    shown = re.findall(r"\]\(([\w.]+)\)", write_page(GAN, 50, True, 0.01))
    assert len(shown) == len(set(shown))
    assert set(shown) == listed - {"report.md", "metrics.json"}
