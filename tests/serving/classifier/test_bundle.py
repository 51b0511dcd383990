"""What evaluate stores, and what the registered classifier answers with it."""

import importlib
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from stages.classifier.base.networks import build_classifier
from stages.classifier.view_averaging import average_over_views
from stages.evaluation.classifier.features import ClassifierSpace
from stages.evaluation.classifier.outliers import unit_length
from stages.serving.classifier.bundle import Serving, write_serving
from stages.training.network_files import save_network
from stages.training.scores import softmax

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 12, 12, 1), dtype=np.uint8)
EMPTY = np.zeros((0, 16), np.float32)


def test_the_file_holds_what_was_stored_in_the_same_bytes(tmp_path):
    bank = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    for name in ("a.npz", "b.npz"):
        write_serving(tmp_path / name, Serving(1.5, -2.25, 10, bank))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert [found[name] for name in ("temperature", "threshold", "neighbours")] == [1.5, -2.25, 10]
        np.testing.assert_array_equal(found["bank"], bank)


def test_the_score_is_named_after_what_it_is():
    assert Serving(1.0, 0.0, 1, np.ones((2, 3))).score_name != Serving(1.0, 0.0, 1, EMPTY).score_name


def served(artifacts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow warns of when it is imported is not ours to mend
        classifier = importlib.import_module("stages.serving.classifier.model").Classifier()
    classifier.load_context(SimpleNamespace(artifacts={name: str(path) for name, path in artifacts.items()}))
    return classifier


@pytest.mark.parametrize("views", ["none", "flip"])
@pytest.mark.parametrize("kind", ["energy", "distance"])
def test_the_registered_classifier_answers_as_evaluate_measured(tmp_path, kind, views):
    save_network(average_over_views(build_classifier("compact", (12, 12, 1), 3, 4), views), tmp_path / "model.keras")
    features, logits = ClassifierSpace(tmp_path / "model.keras")(IMAGES)
    bank = EMPTY if kind == "energy" else unit_length(features[:20]).astype(np.float32)
    serving = Serving(2.5, 0.125, 3, bank)
    write_serving(tmp_path / "serving.npz", serving)
    classifier = served({"model": tmp_path / "model.keras", "serving": tmp_path / "serving.npz"})
    np.testing.assert_allclose(classifier.predict(None, IMAGES), softmax(logits / 2.5), rtol=1e-5)
    scores = classifier.predict(None, IMAGES, {"outlier_scores": True})
    np.testing.assert_allclose(scores, serving.scores(features, logits) - 0.125, atol=1e-4)
    np.testing.assert_allclose(classifier.predict(None, IMAGES, {"outlier_scores": False}).sum(axis=1), 1)


def test_without_the_file_it_is_not_calibrated_and_has_no_outlier_scores(tmp_path):
    network = build_classifier("compact", (12, 12, 1), 3, 4)
    save_network(network, tmp_path / "model.keras")
    classifier = served({"model": tmp_path / "model.keras"})
    np.testing.assert_allclose(classifier.predict(None, IMAGES), softmax(network(IMAGES).numpy()), rtol=1e-4)
    with pytest.raises(ValueError, match="without a threshold"):
        classifier.predict(None, IMAGES, {"outlier_scores": True})
    with pytest.raises(ValueError, match="expected uint8 images"):
        classifier.predict(None, IMAGES.astype(float))
