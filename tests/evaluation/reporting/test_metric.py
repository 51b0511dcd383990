"""The table of metrics: a row for each figure that metrics.json holds, each once."""

import pytest

from ops.project.networks import METRICS, NETWORKS, network_of
from stages.evaluation.reporting.metric import Metric, rows_by_name, without_variant


def test_a_reference_is_another_metric_or_a_text():
    for rows in METRICS.values():
        for metric in rows.values():
            assert not metric.reference.isidentifier() or metric.reference in {*rows, "share"}, metric.name


def test_a_metric_cannot_be_there_twice():
    row = Metric("fd", "FD", 3, "lower", "", "distance")
    with pytest.raises(ValueError, match="twice"):
        rows_by_name([row, row])


def test_variants_lead_back_to_the_metric():
    names = ("fd", "fd_second", "kid_error", "kid_second_low", "ece_calibrated_high", "near_copies_pixels")
    found = [without_variant(name) for name in names]
    assert found == ["fd", "fd", "kid", "kid", "ece_calibrated", "near_copies_pixels"]


def test_networks_are_found_by_section_and_by_registered_model():
    assert {section: network_of(network.model).section for section, network in NETWORKS.items()} == {
        "cnn": "cnn", "gan": "gan"
    }  # fmt: skip
    with pytest.raises(KeyError):
        network_of("visionloop-codec")
