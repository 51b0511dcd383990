"""Features and probabilities of the reference network."""

import numpy as np
import pytest

from stages.classifier.base.networks import build_classifier
from stages.reference_network.features import ReferenceSpace
from stages.training.network_files import save_network
from stages.training.scores import softmax


@pytest.mark.parametrize("arch", ["compact", "article"])
def test_features_and_probabilities_of_the_saved_network(arch, tmp_path):
    network = build_classifier(arch, (10, 10, 1), 3, 4)
    save_network(network, tmp_path / "model.keras")
    images = np.random.default_rng(0).integers(0, 256, (5, 10, 10, 1), dtype=np.uint8)
    features, probabilities = ReferenceSpace(tmp_path / "model.keras")(images)
    assert features.shape == (5, network.get_layer("features").output.shape[1])
    assert features.dtype == probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, softmax(network(images).numpy()), rtol=1e-5)
    kernel, bias = network.get_layer("logits").get_weights()
    np.testing.assert_allclose(softmax(features @ kernel + bias), probabilities, rtol=1e-4)
