import numpy as np
import pytest

from stages.lib.gan_networks import (
    SMALLEST_SIDE,
    _depth_to_space,
    _space_to_depth,
    build_discriminator,
    build_generator,
)
from stages.lib.runtime import keras, tf

LATENTS = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
LABELS, OTHER_LABELS = np.array([0, 1, 2], np.int32), np.array([1, 2, 0], np.int32)


def pair(arch, side, channels, conditional, width=8, dtype="float32"):
    shape = (side, side, channels)
    return (
        build_generator(arch, shape, 3, 5, width, conditional, dtype),
        build_discriminator(arch, shape, 3, width, conditional, dtype),
    )


def layers_of(network) -> list[str]:
    plain = (keras.layers.InputLayer, keras.layers.Reshape)
    return [type(layer).__name__ for layer in network.layers if not isinstance(layer, plain)]


@pytest.mark.parametrize(
    ("arch", "side", "channels", "conditional"),
    [
        ("conv", SMALLEST_SIDE["conv"], 1, True),
        ("conv", 9, 3, False),
        ("conv", 16, 3, True),
        ("conv", 28, 1, False),
        ("conv", 30, 3, True),
        ("conv", 32, 3, True),
        ("conv", 64, 3, False),
        ("article", SMALLEST_SIDE["article"], 1, True),
        ("article", 28, 3, True),
        ("article", 30, 1, False),
    ],
)
def test_shapes_range_and_labels(arch, side, channels, conditional):
    generator, discriminator = pair(arch, side, channels, conditional)
    images = generator([LATENTS, LABELS]).numpy()
    assert images.shape == (3, side, side, channels)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1
    assert images.std() > 0
    logits = discriminator([images, LABELS]).numpy()
    assert logits.shape == (3,)
    assert logits.dtype == np.float32

    for network in (generator, discriminator):  # so that embeddings that start as zeros or ones count
        random = np.random.default_rng(1)
        network.set_weights([w + 0.05 * random.standard_normal(w.shape) for w in network.get_weights()])
    ignored = [
        np.array_equal(generator([LATENTS, LABELS]), generator([LATENTS, OTHER_LABELS])),
        np.array_equal(discriminator([images, LABELS]), discriminator([images, OTHER_LABELS])),
    ]
    assert ignored == [not conditional] * 2


def test_bfloat16_computes_in_it_and_gives_float32():
    for network, inputs in zip(
        pair("conv", 8, 1, True, dtype="mixed_bfloat16"), (LATENTS, np.zeros((3, 8, 8, 1))), strict=True
    ):
        assert network([inputs, LABELS]).dtype == "float32"
        assert {weight.dtype for weight in network.weights} == {"float32"}
        convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
        assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}
    assert keras.config.dtype_policy().name == "float32"


def test_space_to_depth_and_back():
    x = np.random.default_rng(0).random((2, 6, 4, 3), np.float32)
    deep = _space_to_depth(keras.Input([6, 4, 3]))
    assert tuple(deep.shape) == (None, 3, 2, 12)
    inputs = keras.Input([6, 4, 3])
    both = keras.Model(inputs, [_space_to_depth(inputs), _depth_to_space(_space_to_depth(inputs))])
    deep, back = both(x)
    np.testing.assert_array_equal(deep, tf.nn.space_to_depth(x, 2))
    np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(back, tf.nn.depth_to_space(deep, 2))


def test_weights_of_the_default_at_28_px():
    shape = (28, 28, 1)
    assert build_generator("conv", shape, 10, 64, 48, True).count_params() == 453_657
    assert build_discriminator("conv", shape, 10, 48, True).count_params() == 159_697


def test_the_article_s_generator():
    generator = build_generator("article", (28, 28, 1), 10, 100, 48, False)
    block = ["Dense", "LeakyReLU", "BatchNormalization"]
    assert layers_of(generator) == [*block, *block, "Dense", "Conv2D", "LeakyReLU", "Conv2D", "Activation"]
    dense = [layer for layer in generator.layers if isinstance(layer, keras.layers.Dense)]
    assert [(layer.units, layer.activation.__name__) for layer in dense] == [
        (256, "linear"),
        (512, "linear"),
        (28 * 28, "tanh"),
    ]
    convolutions = [layer for layer in generator.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.kernel_size for layer in convolutions] == [(3, 3), (3, 3)]
    assert generator.layers[-1].activation.__name__ == "tanh"


def test_the_article_s_discriminator():
    discriminator = build_discriminator("article", (28, 28, 1), 10, 48, False)
    block = ["Dense", "LeakyReLU", "Dropout"]
    assert layers_of(discriminator) == ["Flatten", *block, *block, "Dense"]
    dense = [layer for layer in discriminator.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [512, 256, 1]
    dropouts = [layer for layer in discriminator.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.rate for layer in dropouts] == [0.3, 0.3]
