"""stages.generator.networks: shapes, sizes and what each network has or has not."""

import numpy as np
import pytest

from stages.generator.networks import (
    SMALLEST_SIDE,
    _append_batch_deviation,
    _depth_to_space,
    _space_to_depth,
    build_discriminator,
    build_generator,
)
from stages.training.tensorflow import keras, tf

LATENTS = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
LABELS, OTHER_LABELS = np.array([0, 1, 2], np.int32), np.array([1, 2, 0], np.int32)


def pair(arch, side, channels, conditional, width=8, dtype="float32"):
    shape = (side, side, channels)
    return (
        build_generator(arch, shape, 3, 5, width, conditional, dtype),
        build_discriminator(arch, shape, 3, width, conditional, dtype),
    )


def layers_of(network) -> list[str]:
    plain = (keras.layers.InputLayer, keras.layers.Reshape, keras.layers.Identity)
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
        ("dcgan", SMALLEST_SIDE["dcgan"], 1, True),
        ("dcgan", 16, 3, False),
        ("dcgan", 30, 1, True),
        ("dcgan", 64, 3, True),
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


@pytest.mark.parametrize("arch", ["conv", "dcgan"])
def test_bfloat16_computes_in_it_and_gives_float32(arch):
    for network, inputs in zip(
        pair(arch, 8, 1, True, dtype="mixed_bfloat16"), (LATENTS, np.zeros((3, 8, 8, 1))), strict=True
    ):
        assert network([inputs, LABELS]).dtype == "float32"
        assert {weight.dtype for weight in network.weights} == {"float32"}
        kinds = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)
        convolutions = [layer for layer in network.layers if isinstance(layer, kinds)]
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
    assert build_generator("conv", shape, 10, 64, 32, True).count_params() == 269_455
    assert build_discriminator("conv", shape, 10, 32, True).count_params() == 105_441


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


@pytest.mark.parametrize(("side", "start", "doublings"), [(16, 4, 2), (28, 7, 2), (32, 4, 3), (48, 6, 3), (64, 4, 4)])
def test_the_dcgan_s_generator(side, start, doublings):
    generator = build_generator("dcgan", (side, side, 3), 10, 100, 16, False)
    block = ["BatchNormalization", "ReLU", "Conv2DTranspose"]
    assert layers_of(generator) == ["Dense", *block * doublings, "Activation"]
    transposed = [layer for layer in generator.layers if isinstance(layer, keras.layers.Conv2DTranspose)]
    assert transposed[0].input.shape[1:] == (start, start, 16 * 2 ** (doublings - 1))
    assert [layer.filters for layer in transposed] == [16 * 2**k for k in range(doublings - 2, -1, -1)] + [3]
    assert {(layer.kernel_size, layer.strides) for layer in transposed} == {((5, 5), (2, 2))}
    assert generator.layers[-1].activation.__name__ == "tanh"


def test_the_dcgan_s_discriminator():
    discriminator = build_discriminator("dcgan", (32, 32, 3), 10, 16, False)
    block = ["Conv2D", "BatchNormalization", "LeakyReLU"]
    assert layers_of(discriminator) == ["Conv2D", "LeakyReLU", *block, *block, "Flatten", "Dense"]
    convolutions = [layer for layer in discriminator.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [(layer.filters, layer.strides) for layer in convolutions] == [(16, (2, 2)), (32, (2, 2)), (64, (2, 2))]
    slopes = [layer.negative_slope for layer in discriminator.layers if isinstance(layer, keras.layers.LeakyReLU)]
    assert slopes == pytest.approx([0.2] * 3)


def test_the_dcgan_starts_with_small_normal_weights():
    for network in pair("dcgan", 32, 3, True, width=32):
        for layer in network.layers:
            if isinstance(layer, keras.layers.Dense | keras.layers.Conv2D | keras.layers.Conv2DTranspose):
                kernel = layer.kernel.numpy()
                assert kernel.std() == pytest.approx(0.02, rel=0.1)
                assert abs(kernel.mean()) < 0.002


@pytest.mark.parametrize("option", ["batch_norm", "spectral_norm"])
def test_the_dcgan_s_discriminator_does_without_batch_norm_where_it_must(option):
    discriminator = build_discriminator("dcgan", (32, 32, 1), 3, 8, True, **{option: option != "batch_norm"})
    assert "BatchNormalization" not in layers_of(discriminator)


@pytest.mark.parametrize("arch", ["conv", "dcgan", "article"])
def test_spectral_norm_is_on_every_layer_with_a_kernel(arch):
    discriminator = build_discriminator(arch, (16, 16, 1), 3, 8, True, spectral_norm=True)
    plain = build_discriminator(arch, (16, 16, 1), 3, 8, True, batch_norm=False)
    linear = (keras.layers.Dense, keras.layers.Conv2D)
    assert not [layer for layer in discriminator.layers if isinstance(layer, linear)]
    wrapped = [layer.layer for layer in discriminator.layers if isinstance(layer, keras.layers.SpectralNormalization)]
    expected = [layer for layer in plain.layers if isinstance(layer, linear)]
    assert [type(layer) for layer in wrapped if isinstance(layer, linear)] == [type(layer) for layer in expected]
    assert discriminator.count_params() > plain.count_params()  # a vector for each


@pytest.mark.parametrize("arch", ["conv", "dcgan", "article"])
def test_the_discriminator_is_told_how_much_a_batch_varies(arch):
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (4, 16, 16, 1)).astype(np.float32)
    others = np.concatenate([images[:1], np.repeat(images[:1], 3, axis=0)])
    labels = np.zeros(4, np.int32)
    keras.utils.set_random_seed(0)
    for told in (False, True):
        discriminator = build_discriminator(arch, (16, 16, 1), 3, 8, True, minibatch_std=told)
        first = [discriminator([batch, labels]).numpy()[0] for batch in (images, others)]
        # Not an absolute bound: an untrained dcgan answers with some 1e-3.
        assert (abs(first[0] - first[1]) > 1e-5 * abs(first[0])) == told


def test_the_deviation_within_a_batch_is_the_mean_over_places_and_filters():
    x = np.random.default_rng(0).standard_normal((6, 3, 3, 2)).astype(np.float32)
    inputs = keras.Input([3, 3, 2])
    appended = keras.Model(inputs, _append_batch_deviation(inputs))(x).numpy()
    np.testing.assert_array_equal(appended[..., :2], x)
    np.testing.assert_allclose(appended[..., 2], x.std(axis=0).mean(), rtol=1e-5)


@pytest.mark.parametrize("arch", ["conv", "dcgan", "article"])
def test_the_features_are_what_the_last_layer_reads(arch):
    discriminator = build_discriminator(arch, (16, 16, 1), 3, 8, False)
    features = discriminator.get_layer("features").output
    assert features.dtype == "float32"
    dense = [layer for layer in discriminator.layers if isinstance(layer, keras.layers.Dense)][-1]
    assert dense.input is features
