"""ops.measure: networks for other classes, sizes and colours on today's images."""

import numpy as np
import pytest

from ops.promote.measure import class_probabilities, fit_images, generated_images
from stages.running.terminal import UserError
from stages.training.network_files import save_network
from stages.training.scores import softmax
from stages.training.tensorflow import keras


def mean_classifier(path, shape, slopes):
    """Saves a network whose logits are the mean grey of an image, 0 to 1, times the slope of each class."""
    images = keras.Input(shape)
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(images))
    grey = keras.layers.Dense(1, use_bias=False, kernel_initializer=keras.initializers.Constant(1 / shape[2]))(mean)
    logits = keras.layers.Dense(len(slopes), use_bias=False)
    network = keras.Model(images, logits(grey))
    logits.set_weights([np.array([slopes], np.float32)])
    save_network(network, path)
    return path


def class_generator(path, shape, levels):
    """Saves a generator that paints an image in the grey of its class, -1 to 1, whatever the latents."""
    latents, labels = keras.Input((4,)), keras.Input((), dtype="int32")
    embedding = keras.layers.Embedding(len(levels), 1)
    level = keras.layers.Add()([embedding(labels), keras.layers.Dense(1, kernel_initializer="zeros")(latents)])
    pixels = keras.layers.RepeatVector(int(np.prod(shape)))(level)
    network = keras.Model([latents, labels], keras.layers.Reshape(shape)(pixels))
    embedding.set_weights([np.array(levels, np.float32)[:, None]])
    save_network(network, path)
    return path


def flat_images(greys, shape=(8, 8, 1)):
    return np.stack([np.full(shape, grey, np.uint8) for grey in greys])


def test_probabilities_are_those_of_the_network(tmp_path):
    network = mean_classifier(tmp_path / "n.keras", (8, 8, 1), [1.0, -2.0])
    found = class_probabilities(network, ["cat", "dog"], flat_images([0, 51, 255]), ["cat", "dog"])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, softmax(np.outer([0, 0.2, 1.0], [1.0, -2.0])), rtol=1e-5)


def test_classes_are_matched_by_name(tmp_path):
    """`dog` is gone and what it gets is lost, `bird` is new and gets nothing, `cat` is elsewhere."""
    network = mean_classifier(tmp_path / "n.keras", (8, 8, 1), [1.0, -2.0, 0.5])
    found = class_probabilities(network, ["cat", "dog", "eel"], flat_images([51, 255]), ["bird", "eel", "cat"])
    theirs = softmax(np.outer([0.2, 1.0], [1.0, -2.0, 0.5]))
    np.testing.assert_allclose(found, np.stack([np.zeros(2), theirs[:, 2], theirs[:, 0]], axis=1), rtol=1e-5)


@pytest.mark.parametrize(("takes", "given"), [((16, 16, 1), (8, 8, 3)), ((4, 4, 3), (8, 8, 1)), ((8, 8, 3), (8, 8, 1))])
def test_images_are_brought_to_what_the_network_takes(tmp_path, takes, given):
    network = mean_classifier(tmp_path / "n.keras", takes, [3.0, 0.0])
    found = class_probabilities(network, ["a", "b"], flat_images([0, 102], given), ["a", "b"])
    np.testing.assert_allclose(found, softmax(np.outer([0, 0.4], [3.0, 0.0])), atol=1e-5)


def test_images_of_the_right_shape_are_not_touched_and_colours_become_luma():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    assert fit_images(images, (8, 8, 3)) is images
    luma = images @ np.array([0.299, 0.587, 0.114])  # of ITU-R 601
    np.testing.assert_allclose(fit_images(images, (8, 8, 1))[..., 0], luma, atol=1)


def test_a_network_that_does_not_fit_its_classes_or_gives_no_numbers_is_refused(tmp_path):
    network = mean_classifier(tmp_path / "n.keras", (8, 8, 1), [1.0, np.nan])
    with pytest.raises(UserError, match=r"distinguishes 2 classes, but its classes\.json names 3"):
        class_probabilities(network, ["a", "b", "c"], flat_images([0]), ["a"])
    with pytest.raises(UserError, match="not finite numbers"):
        class_probabilities(network, ["a", "b"], flat_images([9]), ["a", "b"])


def test_a_generator_is_asked_for_classes_by_name_and_in_turn_for_those_it_does_not_know(tmp_path):
    network = class_generator(tmp_path / "g.keras", (4, 4, 1), [-1.0, 0.0, 1.0])
    today = ["eel", "bird", "cat"]  # the generator knows cat, dog, eel: -1, 0, 1
    labels = np.array([0, 2, 1, 1, 1, 1])
    made = generated_images(network, ["cat", "dog", "eel"], labels, today, (8, 8, 3), seed=0)
    assert made.shape == (6, 8, 8, 3)
    assert made.dtype == np.uint8
    # For birds: eel or cat, which are of today, and never dog.
    assert made[:, 0, 0, 0].tolist() == [255, 0, 0, 255, 0, 255]
    strange = generated_images(network, ["cat", "dog", "eel"], np.array([0, 0, 0]), ["owl"], (4, 4, 1), seed=0)
    assert strange[:, 0, 0, 0].tolist() == [0, 128, 255]


def test_the_same_seed_gives_the_same_images(tmp_path):
    latents, labels = keras.Input((4,)), keras.Input((), dtype="int32")
    pixels = keras.layers.Dense(16, activation="tanh")(latents)
    network = keras.Model([latents, labels], keras.layers.Reshape((4, 4, 1))(pixels))
    save_network(network, tmp_path / "g.keras")

    def made(seed):
        return generated_images(tmp_path / "g.keras", ["a"], np.zeros(5, int), ["a"], (4, 4, 1), seed)

    np.testing.assert_array_equal(made(1), made(1))
    assert not np.array_equal(made(1), made(2))
