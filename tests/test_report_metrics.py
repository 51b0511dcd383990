"""ops.report_metrics: what figures are called, and which way is better."""

import pytest

from ops.report_metrics import label


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("accuracy", "accuracy ↑"),
        ("nll_calibrated", "nll calibrated ↓"),
        ("aurc", "AURC ↓"),
        ("fd", "FD ↓"),
        ("fd_second", "FD, second ruler ↓"),
        ("fd_floor_second", "FD of real images, second ruler"),
        ("fd_infinity", "FD at infinity ↓"),
        ("near_copies_pixels", "near copies pixels ↓"),
        ("memorisation_ratio", "memorisation ratio"),
        ("coverage", "coverage ↑"),
        ("a class: cat & dog", "a class: cat & dog ↑"),
    ],
)
def test_a_figure_says_which_way_is_better_where_there_is_one(metric, expected):
    assert label(metric) == expected
