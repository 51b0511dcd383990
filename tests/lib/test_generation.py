import numpy as np
import pytest

from stages.lib import generation
from stages.lib.gan_networks import build_generator
from stages.lib.generation import draw_latents, generate, is_conditional
from stages.lib.runtime import keras


def test_latents_are_standard_normal_and_set_by_their_seed():
    latents = draw_latents(2000, 8, seed=1)
    assert latents.shape == (2000, 8)
    assert latents.dtype == np.float32
    assert abs(latents.mean()) < 0.03
    assert abs(latents.std() - 1) < 0.03
    np.testing.assert_array_equal(latents[:10], draw_latents(10, 8, seed=1))
    assert not np.array_equal(latents[:10], draw_latents(10, 8, seed=2))


def test_minus_1_to_1_becomes_0_to_255():
    latents, labels = keras.Input([4]), keras.Input([], dtype="int32")
    network = keras.Model([latents, labels], keras.layers.Reshape([2, 2, 1])(latents))
    values = np.array([[-1, 0.0, 1, 0.5], [-1.01, 1.01, 1 / 255, -0.995]], np.float32)
    images = generate(network, values, np.zeros(2, np.int64))
    assert images.dtype == np.uint8
    assert images.reshape(2, 4).tolist() == [[0, 128, 255, 191], [0, 255, 128, 1]]


def test_an_image_depends_on_its_own_latents_and_label_alone():
    generator = build_generator("conv", (8, 8, 3), 3, 4, 8, True)
    latents, labels = draw_latents(6, 4, 0), np.array([0, 1, 2, 0, 1, 2])
    images = generate(generator, latents, labels)
    assert images.shape == (6, 8, 8, 3)
    alone = generate(generator, latents[4:5], labels[4:5])
    assert np.abs(images[4:5].astype(int) - alone).max() <= 1


def test_many_images_are_made_in_parts(monkeypatch):
    generator = build_generator("conv", (8, 8, 1), 3, 4, 8, True)
    latents, labels = draw_latents(10, 4, 0), np.arange(10) % 3
    whole = generate(generator, latents, labels)
    monkeypatch.setattr(generation, "IMAGES_AT_A_TIME", 4)
    assert np.abs(generate(generator, latents, labels).astype(int) - whole).max() <= 1


@pytest.mark.parametrize("arch", ["conv", "article"])
@pytest.mark.parametrize("conditional", [True, False])
def test_a_generator_shows_whether_it_takes_classes(arch, conditional):
    assert is_conditional(build_generator(arch, (8, 8, 1), 3, 4, 8, conditional)) is conditional
