"""stages.lib.generator_evaluation: the generator's figures on tiny arrays."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.lib.gan_networks import build_generator
from stages.lib.generator_evaluation import accuracy_when_trained_on_generated, draw_samples, generator_metrics

RANDOM = np.random.default_rng(0)


def test_a_perfect_generator_is_as_far_from_the_test_images_as_the_train_images_are():
    fake, test, train = RANDOM.normal(size=(3, 400, 4))
    options = {"kid_subsets": 10, "kid_subset_size": 50, "seed": 0}
    found = generator_metrics(fake, test, train, **options)
    assert found["fd"] == pytest.approx(found["fd_floor"], abs=0.1)
    assert abs(found["kid"]) < 4 * found["kid_error"]
    worse = generator_metrics(fake + 3, test, train, **options)
    assert worse["fd"] > 20 * worse["fd_floor"]
    assert worse["fd_floor"] == found["fd_floor"]
    assert worse["precision"] < found["precision"]


def test_samples_have_a_row_per_class_and_an_untrained_generator_teaches_chance(tmp_path):
    generator = build_generator("conv", (8, 8, 1), 3, 4, 4, True)
    draw_samples(tmp_path / "samples.png", generator, ["a", "b", "c"], 0)
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.height == 4 + 3 * (64 + 4)
    labels = np.arange(60) % 3
    images = RANDOM.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    options: dict[str, Any] = {"images": 30, "steps": 2, "batch_size": 8, "lr": 0.005, "seed": 0}
    assert 0.1 < accuracy_when_trained_on_generated(generator, labels, 3, images, labels, **options) < 0.6
