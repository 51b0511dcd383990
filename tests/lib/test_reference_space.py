import numpy as np
import pytest

from stages.lib.classification_metrics import softmax
from stages.lib.classifiers import build_classifier
from stages.lib.network_files import save_network
from stages.lib.reference_space import ReferenceSpace


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
