"""ops.report.formatting: names of metrics, their better direction, and their digits."""

import pytest

from ops.project.networks import METRICS
from ops.report.formatting import formatted, interval, label, name_of, signed


@pytest.mark.parametrize(
    ("section", "metric", "expected"),
    [
        ("cnn", "accuracy", "accuracy ↑"),
        ("cnn", "nll_calibrated", "NLL, calibrated ↓"),
        ("cnn", "aurc", "AURC ↓"),
        ("gan", "fd", "FD ↓"),
        ("gan", "fd_second", "FD, second reference ↓"),
        ("gan", "fd_floor_second", "FD of real images, second reference"),
        ("gan", "fd_infinity", "FD at infinity ↓"),
        ("gan", "near_copies_pixels", "near copies as plain pixels ↓"),
        ("gan", "memorisation_ratio", "distance to train images"),
        ("gan", "memorisation_ratio_pixels", "distance to train images as plain pixels"),
        ("gan", "coverage", "coverage ↑"),
        ("cnn", "recall of a class: cat & dog", "recall of a class: cat & dog ↑"),
    ],
)
def test_a_figure_says_which_way_is_better_where_there_is_one(section, metric, expected):
    assert label(section, metric) == expected


@pytest.mark.parametrize("section", METRICS)
def test_names_differ(section):
    names = [name_of(section, metric) for metric in METRICS[section]]
    assert len({*names}) == len(names)


def test_figures_have_the_decimals_of_their_metric_and_zero_has_no_sign():
    assert formatted("cnn", "accuracy", 0.9920634) == "0.9921"
    assert formatted("cnn", "suspected_test_labels", 12.0) == "12"
    assert formatted("cnn", "recall of cat", 0.5) == "0.5000"
    assert formatted("gan", "fd_second", 3.1231934) == "3.123"
    assert signed("gan", "fd", -2.0) == "-2.000"
    assert signed("cnn", "accuracy", 0.00004) == signed("cnn", "accuracy", -0.00004) == "0.0000"
    assert interval("cnn", "aurc", (-0.00021, 0.00002)) == "-0.00021 to +0.00002"
    assert interval("cnn", "aurc", None) == ""
