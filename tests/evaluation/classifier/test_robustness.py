"""stages.evaluation.classifier.robustness: hits under each corruption."""

import numpy as np

from stages.classifier.base.networks import build_classifier
from stages.evaluation.classifier.corruptions import CORRUPTIONS
from stages.evaluation.classifier.features import ClassifierSpace
from stages.evaluation.classifier.robustness import corrupted_hits
from stages.training.network_files import save_network

RANDOM = np.random.default_rng(0)


def test_corruptions_are_measured_beside_the_images_as_they_are(tmp_path):
    save_network(build_classifier("compact", (12, 12, 1), 3, 4), tmp_path / "model.keras")
    space = ClassifierSpace(tmp_path / "model.keras")
    images = RANDOM.integers(0, 256, (30, 12, 12, 1), dtype=np.uint8)
    labels = space(images)[1].argmax(axis=1)
    hits, examples = corrupted_hits(space, images, labels, seed=0)
    assert list(hits) == list(examples) == ["clean", *CORRUPTIONS]
    assert hits["clean"].shape == (30,)
    assert hits["clean"].all()
    np.testing.assert_array_equal(examples["clean"], images[0])
