"""stages.classifier.base.networks: each network builds at each size, and is what it says."""

import numpy as np
import pytest

from stages.classifier.base.networks import SMALLEST_SIDE, build_classifier
from stages.training.tensorflow import keras


def convolutions(network) -> list:
    return [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("arch", "side"),
    [*((arch, side) for arch in SMALLEST_SIDE for side in (SMALLEST_SIDE[arch], 16, 28, 64)), ("compact", 11)],
)
def test_uint8_images_to_logits_with_features_before_them(arch, side, channels):
    network = build_classifier(arch, (side, side, channels), 7, 4)
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, channels), dtype=np.uint8)
    logits = network(images)
    assert tuple(logits.shape) == (3, 7)
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()
    assert network.layers[-2].name == "features"
    last_map = network.get_layer("features").input.shape
    if arch in ("compact", "vgg"):
        assert 2 <= last_map[1] <= 4
    if arch == "resnet":
        assert 4 <= last_map[1] <= 8


@pytest.mark.parametrize(("arch", "per_depth"), [("compact", 1), ("vgg", 3), ("resnet", 6)])
def test_depth_adds_convolutions(arch, per_depth):
    # 28 px give three stages; a residual block has two convolutions, and shortcuts add none after the first block.
    shallow, deep = (build_classifier(arch, (28, 28, 1), 3, 4, depth=depth) for depth in (1, 3))
    assert len(convolutions(deep)) - len(convolutions(shallow)) == 2 * per_depth


@pytest.mark.parametrize("arch", SMALLEST_SIDE)
def test_width_scales_every_convolution(arch):
    narrow, wide = (build_classifier(arch, (28, 28, 1), 3, width) for width in (4, 12))
    assert convolutions(narrow)[0].filters == 4
    assert [3 * layer.filters for layer in convolutions(narrow)] == [layer.filters for layer in convolutions(wide)]


def test_a_resnet_for_32_px_of_depth_3_and_width_16_is_resnet_20():
    network = build_classifier("resnet", (32, 32, 3), 10, 16, depth=3)
    three_by_three = [layer for layer in convolutions(network) if layer.kernel_size == (3, 3)]
    assert len(three_by_three) + 1 == 20  # with the last layer
    assert [layer.filters for layer in three_by_three] == [16] * 7 + [32] * 6 + [64] * 6
    trainable = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    shortcuts = 16 * 32 + 32 * 64 + 2 * (32 + 64)  # the paper's two without parameters are convolutions here
    assert trainable - shortcuts == 269_722  # 0.27 M in table 6 of the paper


def test_vgg_stages():
    network = build_classifier("vgg", (28, 28, 1), 10, 8, depth=2)
    assert [layer.filters for layer in convolutions(network)] == [8, 8, 16, 16, 32, 32]
    assert sum(isinstance(layer, keras.layers.MaxPooling2D) for layer in network.layers) == 3


def test_the_article_s_network():
    network = build_classifier("article", (28, 28, 1), 10, 32)
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    assert [type(layer).__name__ for layer in layers] == [
        "Rescaling",
        "Conv2D",
        "MaxPooling2D",
        "Conv2D",
        "MaxPooling2D",
        "Flatten",
        "Dense",
        "Dense",
    ]
    first, first_pool, second, second_pool = layers[1:5]
    for convolution, filters in ((first, 32), (second, 64)):
        assert (convolution.filters, convolution.kernel_size) == (filters, (3, 3))
        assert (convolution.activation.__name__, convolution.padding) == ("relu", "valid")
    assert first_pool.pool_size == second_pool.pool_size == (2, 2)
    hidden, logits = layers[-2:]
    assert (hidden.units, hidden.activation.__name__) == (64, "relu")
    assert (logits.units, logits.activation.__name__) == (10, "linear")
    assert network.count_params() == 121_930  # as the softmax version that tutorials print


def test_bfloat16_computes_in_it_and_gives_float32():
    network = build_classifier("compact", (8, 8, 1), 3, 4, "mixed_bfloat16")
    assert network(np.zeros((2, 8, 8, 1), np.uint8)).dtype == "float32"
    assert {weight.dtype for weight in network.weights} == {"float32"}
    assert network.get_layer("features").compute_dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
