"""stages.classifier.view_averaging: a saved network that averages over views of an image."""

import subprocess
import sys

import numpy as np
import pytest

from stages.classifier.base.networks import SMALLEST_SIDE, build_classifier
from stages.classifier.view_averaging import average_over_views
from stages.training.network_files import load_network, save_network

RANDOM = np.random.default_rng(0)
LOAD = """
import sys
import keras
import numpy as np
network = keras.saving.load_model(sys.argv[1], compile=False, safe_mode=True)
np.save(sys.argv[3], network.predict(np.load(sys.argv[2]), batch_size=512, verbose=0))
assert not [name for name in sys.modules if name.startswith("stages")]
"""


def moved(images: np.ndarray, by: int) -> np.ndarray:
    """Down and to the right by `by` px, or the other way; black moves in."""
    result = np.zeros_like(images)
    side = images.shape[1]
    into, of = slice(max(0, by), side + min(0, by)), slice(max(0, -by), side - max(0, by))
    result[:, into, into] = images[:, of, of]
    return result


def expected_logits(network, images: np.ndarray, views: str, step: int) -> np.ndarray:
    logits = []
    for side in [images, images[:, :, ::-1]] if "flip" in views else [images]:
        at = network(side).numpy()
        if "shift" in views:
            at = at / 2 + network(moved(side, step)).numpy() / 4 + network(moved(side, -step)).numpy() / 4
        logits.append(at)
    return np.mean(logits, axis=0)


@pytest.mark.parametrize("views", ["flip", "shift", "flip_shift"])
@pytest.mark.parametrize(("side", "channels", "step"), [(16, 1, 1), (57, 3, 2)])
def test_logits_are_the_mean_over_the_views(views, side, channels, step):
    network = build_classifier("compact", (side, side, channels), 4, 4)
    images = RANDOM.integers(0, 256, (6, side, side, channels), dtype=np.uint8)
    averaged = average_over_views(network, views)
    np.testing.assert_allclose(averaged(images), expected_logits(network, images, views, step), atol=1e-5)
    assert averaged.count_params() == network.count_params()
    assert averaged.input.dtype == "uint8"
    assert averaged.output.dtype == "float32"
    np.testing.assert_array_equal(averaged.get_layer("trunk")(images), network(images))


def test_the_mirror_image_gets_the_same_logits():
    network = average_over_views(build_classifier("resnet", (16, 16, 1), 4, 4), "flip")
    images = RANDOM.integers(0, 256, (6, 16, 16, 1), dtype=np.uint8)
    np.testing.assert_allclose(network(images), network(np.ascontiguousarray(images[:, :, ::-1])), atol=1e-5)


def test_none_is_the_network_itself():
    network = build_classifier("compact", (16, 16, 1), 4, 4)
    assert average_over_views(network, "none") is network


@pytest.mark.slow
def test_it_loads_in_safe_mode_in_a_process_that_knows_keras_alone(tmp_path):
    images = RANDOM.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    network = average_over_views(build_classifier("vgg", (16, 16, 3), 4, 4), "flip_shift")
    save_network(network, tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    arguments = [sys.executable, "-c", LOAD, *(tmp_path / name for name in ("model.keras", "images.npy", "logits.npy"))]
    subprocess.run(arguments, cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), network.predict(images, verbose=0))


@pytest.mark.parametrize("arch", SMALLEST_SIDE)
def test_every_network_comes_back_with_its_trunk(arch, tmp_path):
    network = average_over_views(build_classifier(arch, (16, 16, 1), 4, 4), "flip_shift")
    save_network(network, tmp_path / "a.keras")
    save_network(network, tmp_path / "b.keras")
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    loaded = load_network(tmp_path / "a.keras")
    images = RANDOM.integers(0, 256, (6, 16, 16, 1), dtype=np.uint8)
    np.testing.assert_array_equal(loaded(images), network(images))
    trunk = loaded.get_layer("trunk")
    assert trunk.layers[-2].name == "features"
    np.testing.assert_array_equal(trunk(images), network.get_layer("trunk")(images))
