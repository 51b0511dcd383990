import numpy as np
import pytest

from stages.lib.classifiers import SMALLEST_SIDE, build_classifier
from stages.lib.runtime import keras


@pytest.mark.parametrize(
    ("arch", "side", "channels"),
    [
        ("compact", SMALLEST_SIDE["compact"], 1),
        ("compact", 11, 3),
        ("compact", 16, 1),
        ("compact", 28, 1),
        ("compact", 32, 3),
        ("compact", 64, 3),
        ("article", SMALLEST_SIDE["article"], 3),
        ("article", 28, 1),
        ("article", 64, 1),
    ],
)
def test_uint8_images_to_logits_with_features_before_them(arch, side, channels):
    network = build_classifier(arch, (side, side, channels), 7, 4)
    images = np.random.default_rng(0).integers(0, 256, (3, side, side, channels), dtype=np.uint8)
    logits = network(images)
    assert tuple(logits.shape) == (3, 7)
    assert logits.dtype == "float32"
    assert network.layers[-2].name == "features"
    if arch == "compact":
        last_map = network.get_layer("features").input.shape
        assert 2 <= last_map[1] <= 4


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
