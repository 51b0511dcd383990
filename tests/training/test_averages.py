"""Averaged weights against the recursion written out."""

import numpy as np
import pytest

from stages.training.averages import AveragedNetwork
from stages.training.tensorflow import keras


@pytest.fixture
def network():
    return keras.Sequential([keras.Input([3]), keras.layers.Dense(2), keras.layers.BatchNormalization()])


def drift(network, to: float) -> None:
    network.set_weights([np.full_like(value, to) for value in network.get_weights()])


def test_starts_as_the_first_weights_and_is_a_copy(network):
    first = network.get_weights()
    averaged = AveragedNetwork(network, 0.99)
    drift(network, 7.0)
    for average, value in zip(averaged.model.get_weights(), first, strict=True):
        np.testing.assert_array_equal(average, value)


def test_decay_0_follows(network):
    averaged = AveragedNetwork(network, 0.0)
    drift(network, 7.0)
    averaged.update(0)
    for average in averaged.model.get_weights():
        np.testing.assert_allclose(average, 7.0, rtol=1e-6)


def test_every_weight_moves_by_the_closed_form(network):
    drift(network, 0.0)
    averaged = AveragedNetwork(network, 0.3)
    expected = 0.0
    for step in range(6):
        drift(network, step + 1.0)
        averaged.update(step)
        decay = min(0.3, (1 + step) / (10 + step))  # 0.1, 0.18, 0.25, then 0.3
        expected = decay * expected + (1 - decay) * (step + 1.0)
    weights = averaged.model.get_weights()
    assert len(weights) == 6  # kernel, bias, gamma, beta, and the moving mean and variance of batch norm
    for average in weights:
        np.testing.assert_allclose(average, expected, rtol=1e-5)


def test_does_not_touch_its_source(network):
    drift(network, 2.0)
    averaged = AveragedNetwork(network, 0.9)
    drift(network, 3.0)
    averaged.update(100)
    assert all((value == 3.0).all() for value in network.get_weights())
