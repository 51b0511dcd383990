"""What ops.search may aim at: metrics of the validation images, in the direction in which they are better."""

import json

import pytest

from ops.search.metrics import METRICS
from ops.search.objectives import parse_objective
from stages.running.terminal import UserError
from tests.conftest import ROOT


def test_the_metrics_are_those_that_the_stages_write():
    written: dict[str, dict[str, float]] = {}
    for stage in ("train_cnn", "train_gan"):
        written |= json.loads((ROOT / f"data/{stage}/metrics.json").read_text())
    assert set(METRICS) == {f"{section}.{name}" for section, values in written.items() for name in values}


@pytest.mark.parametrize(
    ("name", "direction", "sentence"),
    [
        ("gan.fd", "minimise", "gan.fd is measured on the test images, which must not guide a choice"),
        ("cnn.accuracy", "maximise", "cnn.accuracy is measured on the test images"),
        ("gan.kid_second_low", "minimise", "gan.kid_second_low is measured on the test images"),
        ("cnn.val_acc", "maximise", "cnn.val_acc is neither a metric of the validation images .cnn.val_accuracy"),
        ("val_fd", "minimise", "val_fd is neither"),
        ("cnn.val_accuracy", "minimise", "better when it is higher: use --maximise cnn.val_accuracy"),
        ("gan.val_fd", "maximise", "better when it is lower: use --minimise gan.val_fd"),
    ],
)
def test_what_is_no_objective_is_one_sentence(name, direction, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_objective(name, direction)


def test_an_objective_knows_its_stage_and_whether_it_is_measured_midway():
    assert parse_objective("gan.val_fd", "minimise").stage == "train_gan"
    assert parse_objective("gan.val_fd", "minimise").measured_during_training
    assert parse_objective("cnn.weights", "minimise").stage == "train_cnn"
    assert not parse_objective("cnn.weights", "minimise").measured_during_training
    assert parse_objective("gan.steps", "minimise").stage is None
