"""stages.evaluation.classifier.grad_cam against a network whose evidence is known."""

import numpy as np
import pytest

from stages.classifier.base.networks import build_classifier
from stages.evaluation.classifier.grad_cam import grad_cam, heat_over
from stages.training.tensorflow import keras


def corners() -> object:
    """Logits are the mean brightness, for class 0, and the mean darkness, for class 1."""
    images = keras.Input((8, 8, 1), dtype="uint8")
    maps = keras.layers.Conv2D(2, 1, name="maps")(keras.layers.Rescaling(1 / 255)(images))
    features = keras.layers.GlobalAveragePooling2D(name="features")(maps)
    network = keras.Model(images, keras.layers.Dense(2, use_bias=False, name="logits")(features))
    network.get_layer("maps").set_weights([np.array([[[[1.0, -1.0]]]]), np.array([0.0, 1.0])])
    network.get_layer("logits").set_weights([np.eye(2)])
    return network


def test_the_closed_form_of_a_linear_network():
    # The gradient at each of 64 places is 1/64 for the map of the class: the heat is that map, scaled to 1.
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    heat = grad_cam(corners(), images, np.array([0, 1]))
    bright = images[..., 0] / 255
    np.testing.assert_allclose(heat[0], bright[0] / bright[0].max(), rtol=1e-4)
    np.testing.assert_allclose(heat[1], (1 - bright[1]) / (1 - bright[1]).max(), rtol=1e-4, atol=1e-6)


def test_where_nothing_speaks_for_the_class_all_is_0():
    black = np.zeros((1, 8, 8, 1), np.uint8)
    assert (grad_cam(corners(), black, np.array([0])) == 0).all()
    assert (grad_cam(corners(), black, np.array([1])) == 1).all()


@pytest.mark.parametrize("arch", ["compact", "article"])
@pytest.mark.parametrize("shape", [(12, 12, 1), (30, 30, 3)])
def test_any_network_has_maps_from_0_to_1(arch, shape):
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    heat = grad_cam(build_classifier(arch, shape, 4, 4), images, np.array([0, 1, 3]))
    assert heat.shape == (3, *shape[:2])
    assert heat.min() >= 0
    assert heat.max() <= 1
    assert heat_over(images, heat).shape == (3, *shape[:2], 3)


def test_a_network_without_places_says_so():
    inputs = keras.Input((4,))
    features = keras.layers.Dense(3, name="features")(inputs)
    with pytest.raises(ValueError, match="feature maps"):
        grad_cam(
            keras.Model(inputs, keras.layers.Dense(2)(features)), np.zeros((1, 4, 4, 1), np.uint8), np.zeros(1, int)
        )
