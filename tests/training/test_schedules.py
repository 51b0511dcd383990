"""Learning-rate schedules at their ends and corners."""

import numpy as np
import pytest

from stages.training.schedules import learning_rate_factor
from stages.training.tensorflow import tf


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("one_cycle", {0: 0, 0.1: 0.5, 0.2: 1, 0.6: 0.5, 1: 0}),
        ("cosine", {0: 1, 1 / 3: 0.75, 0.5: 0.5, 1: 0}),
        ("constant", {0: 1, 0.5: 1, 1: 1}),
        ("linear_tail", {0: 1, 0.25: 1, 0.5: 1, 0.75: 0.525, 1: 0.05}),
    ],
)
def test_closed_forms(schedule, factors):
    for progress, factor in factors.items():
        assert float(learning_rate_factor(schedule, progress)) == pytest.approx(factor, abs=1e-6)
    curve = learning_rate_factor(schedule, tf.linspace(0.0, 1.0, 101)).numpy()
    assert curve.dtype == np.float32
    assert curve.min() >= -1e-6
    assert curve.max() <= 1 + 1e-6


def test_an_unknown_schedule_names_the_known_ones():
    with pytest.raises(ValueError, match="'step', expected one of one_cycle, cosine, constant, linear_tail"):
        learning_rate_factor("step", 0.5)  # type: ignore[arg-type]
