"""From latents and labels to images."""

import numpy as np
import pytest

from stages.generator import sampling as generation
from stages.generator.networks import build_generator
from stages.generator.sampling import circular_walk, draw_latents, generate, is_conditional
from stages.training.tensorflow import keras


def test_latents_are_standard_normal_and_set_by_their_seed():
    latents = draw_latents(2000, 8, seed=1)
    assert latents.shape == (2000, 8)
    assert latents.dtype == np.float32
    assert abs(latents.mean()) < 0.03
    assert abs(latents.std() - 1) < 0.03
    np.testing.assert_array_equal(latents[:10], draw_latents(10, 8, seed=1))
    assert not np.array_equal(latents[:10], draw_latents(10, 8, seed=2))


@pytest.mark.parametrize("latent_dim", [2, 64])
def test_a_walk_starts_at_the_latents_and_goes_around_the_origin_in_equal_steps(latent_dim):
    start, towards = draw_latents(10, latent_dim, seed=1).reshape(2, 5, latent_dim)
    walk = circular_walk(start, towards, 12)
    assert (walk.shape, walk.dtype) == ((12, 5, latent_dim), np.float32)
    np.testing.assert_allclose(walk[0], start, atol=1e-6)
    np.testing.assert_allclose(walk[6], -start, atol=1e-5)
    lengths = np.linalg.norm(start, axis=1)
    np.testing.assert_allclose(np.linalg.norm(walk, axis=2), np.tile(lengths, (12, 1)), rtol=1e-5)
    steps = np.linalg.norm(walk - np.roll(walk, 1, axis=0), axis=2)
    np.testing.assert_allclose(steps, np.tile(2 * np.sin(np.pi / 12) * lengths, (12, 1)), rtol=1e-4)
    assert ((walk[3] * towards).sum(axis=1) > 0).all()


def test_a_walk_through_one_number_goes_to_and_fro():
    start = np.array([[2.0], [-1.0]], np.float32)
    np.testing.assert_allclose(circular_walk(start, start + 1, 4)[:, 0, 0], [2, 0, -2, 0], atol=1e-5)


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
