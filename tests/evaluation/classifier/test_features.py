"""stages.evaluation.classifier.features: features and logits of each kind of saved network."""

import numpy as np
import pytest

from stages.classifier.base.networks import build_classifier
from stages.classifier.view_averaging import average_over_views
from stages.evaluation.classifier.features import ClassifierSpace
from stages.training.network_files import save_network

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 1), dtype=np.uint8)


@pytest.mark.parametrize("views", ["none", "flip"])
def test_logits_are_those_of_the_network_and_features_those_of_the_image_itself(views, tmp_path):
    trunk = build_classifier("compact", (12, 12, 1), 3, 4)
    network = average_over_views(trunk, views)
    save_network(network, tmp_path / "model.keras")
    space = ClassifierSpace(tmp_path / "model.keras")
    features, logits = space(IMAGES)
    np.testing.assert_allclose(logits, network(IMAGES).numpy(), rtol=1e-4, atol=1e-5)
    kernel, bias = trunk.get_layer("logits").get_weights()
    np.testing.assert_allclose(features @ kernel + bias, trunk(IMAGES).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(space.trunk(IMAGES).numpy(), trunk(IMAGES).numpy(), rtol=1e-4, atol=1e-5)


def test_nearest_images_over_several_shards(tmp_path):
    save_network(build_classifier("compact", (12, 12, 1), 3, 4), tmp_path / "model.keras")
    space = ClassifierSpace(tmp_path / "model.keras")
    features, _ = space(IMAGES)
    found = space.nearest(features[[7, 15]], [IMAGES[:9], IMAGES[9:10], IMAGES[10:]], 5)
    distances = np.linalg.norm(features[[7, 15], None] - features[None], axis=2)
    np.testing.assert_array_equal(found, np.argsort(distances, axis=1)[:, :5])
    assert found[:, 0].tolist() == [7, 15]  # itself
    assert space.nearest(features[:1], [IMAGES[:3]], 5).shape == (1, 3)
    assert space.nearest(features[:0], [IMAGES], 5).shape == (0, 5)
