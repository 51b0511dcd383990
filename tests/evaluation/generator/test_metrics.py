"""stages.evaluation.generator.metrics: the generator's figures on tiny arrays."""

from typing import Any

import numpy as np
import pytest

from stages.core.dataset import Images
from stages.evaluation.generator.metrics import (
    class_distances,
    classification_accuracy_score,
    generator_metrics,
    large_sample_metrics,
)
from stages.generator.networks import build_generator

RANDOM = np.random.default_rng(0)


def test_a_perfect_generator_is_as_far_from_the_test_images_as_the_train_images_are():
    fake, test, train = RANDOM.normal(size=(3, 400, 4))
    options = {"kid_subsets": 10, "kid_subset_size": 50, "seed": 0}
    found = generator_metrics(fake, test, train, **options)
    assert found["fd"] == pytest.approx(found["fd_floor"], abs=0.1)
    assert abs(found["kid"]) < 4 * found["kid_error"]
    half = (found["kid_high"] - found["kid_low"]) / 2
    assert (found["kid_low"] + half, half) == pytest.approx((found["kid"], 1.959964 * found["kid_error"]))
    more = large_sample_metrics(fake, test, train, sizes=5, draws=2, seed=0)
    assert more["fd_infinity"] == pytest.approx(more["fd_infinity_floor"], abs=0.1)
    assert more["fd_infinity"] < found["fd"]
    assert more["density"] == pytest.approx(1, abs=0.1)
    assert more["coverage"] == pytest.approx(more["coverage_expected"], abs=0.04)
    worse = generator_metrics(fake + 3, test, train, **options)
    assert worse["fd"] > 20 * worse["fd_floor"]
    assert worse["fd_floor"] == found["fd_floor"]
    assert worse["precision"] < found["precision"]


def test_a_class_that_is_made_badly_stands_out_and_one_with_few_images_is_left_out():
    labels = np.repeat([0, 1, 2], [200, 200, 20])
    fake, test, train = RANDOM.normal(size=(3, 420, 4))
    fake[labels == 1] += 3
    rows = class_distances((fake, labels), (test, labels), (train, labels), ["cat", "dog", "emu"], 50)
    assert [(row["class"], row["images"]) for row in rows] == [("cat", 200), ("dog", 200), ("emu", 20)]
    assert rows[0]["fd"] == pytest.approx(rows[0]["fd_floor"], abs=0.2)
    assert rows[1]["fd"] == pytest.approx(36, rel=0.1)
    assert rows[1]["fd_floor"] < 0.3
    assert (rows[2]["fd"], rows[2]["fd_floor"]) == ("", "")


def test_an_untrained_generator_teaches_chance(tmp_path):
    generator = build_generator("conv", (8, 8, 1), 3, 4, 4, True)
    labels = np.arange(60) % 3
    np.save(tmp_path / "test-00000.npy", RANDOM.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8))
    images = Images(tmp_path, "test")
    options: dict[str, Any] = {"images": 30, "steps": 2, "batch_size": 8, "lr": 0.005, "seed": 0}
    assert 0.1 < classification_accuracy_score(generator, labels, 3, images, labels, **options) < 0.6
