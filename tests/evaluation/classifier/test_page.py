"""stages.evaluation.classifier.page: every figure and picture is on the page."""

import re

from stages.evaluation.classifier.page import write_page
from stages.evaluation.classifier.table import METRICS
from tests.conftest import ROOT


def test_figures_stand_with_their_intervals_and_absent_ones_are_left_out():
    page = write_page({"accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75, "aurc": 0.125}, 100)
    assert "100 test images" in page
    assert "| figure | value | 95% interval | meaning |\n|---|---|---|---|\n| accuracy |" in page
    assert "| accuracy | 0.5000 | 0.2500 to 0.7500 | share of images classified right |" in page
    assert "| AURC | 0.12500 |  | " in page
    assert "corrupted accuracy" not in page


def test_every_file_that_it_shows_is_an_output_of_the_stage():
    page = write_page(dict.fromkeys((metric.name for metric in METRICS), 0.5), 100)
    listed = set(re.findall(r"data/evaluate_cnn/([\w.]+)", (ROOT / "dvc.yaml").read_text(encoding="utf-8")))
    shown = re.findall(r"\]\(([\w.]+)\)", page)
    assert len(shown) == len(set(shown))
    assert set(shown) == listed - {"predictions.csv", "serving.npz", "report.md", "metrics.json"}
