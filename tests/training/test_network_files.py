"""Saved networks: the same bytes for the same weights, and no code when they load."""

import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stages.classifier.base.networks import build_classifier
from stages.generator.networks import build_generator
from stages.training.network_files import copy_in_float32, load_network, save_network
from stages.training.tensorflow import keras

ROOT = Path(__file__).parents[2]
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def classifier():
    return build_classifier("compact", (8, 8, 1), 3, 4)


def test_the_same_weights_are_the_same_bytes_at_any_time(classifier, tmp_path):
    save_network(classifier, tmp_path / "a.keras")
    time.sleep(1.1)
    save_network(classifier, tmp_path / "b.keras")
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.keras", "b.keras"]
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_no_memory_address_gets_into_the_file(dtype, tmp_path):
    save_network(build_classifier("compact", (8, 8, 1), 3, 4, dtype), tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        texts = [archive.read(name).decode() for name in archive.namelist() if name.endswith(".json")]
    assert len(texts) == 2
    assert re.findall(r"(?<![.\d])\d{8,}", "".join(texts)) == []


@pytest.mark.slow
def test_the_same_code_gives_the_same_bytes_in_every_process(tmp_path):
    code = """
import sys
from stages.classifier.base.networks import build_classifier
from stages.training.network_files import save_network
from stages.training.tensorflow import seed_everything
seed_everything(5)
save_network(build_classifier("compact", (8, 8, 1), 3, 4), sys.argv[1])
"""
    runs = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path / name], cwd=ROOT) for name in ("a.keras", "b.keras")
    ]
    assert [run.wait() for run in runs] == [0, 0]
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()


def test_a_classifier_comes_back_with_keras_alone(classifier, tmp_path):
    save_network(classifier, tmp_path / "a.keras")
    images = RANDOM.integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    for loaded in (keras.saving.load_model(tmp_path / "a.keras", safe_mode=True), load_network(tmp_path / "a.keras")):
        np.testing.assert_array_equal(loaded(images), classifier(images))


@pytest.mark.parametrize("arch", ["conv", "article"])
def test_a_generator_comes_back_with_keras_alone(arch, tmp_path):
    generator = build_generator(arch, (9, 9, 3), 3, 5, 8, True)
    save_network(generator, tmp_path / "a.keras")
    inputs = [RANDOM.standard_normal((4, 5)).astype(np.float32), np.array([0, 1, 2, 0], np.int32)]
    loaded = keras.saving.load_model(tmp_path / "a.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(inputs), generator(inputs))


def test_code_in_a_file_is_refused(tmp_path):
    inputs = keras.Input([2])
    network = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1, output_shape=(2,))(inputs))
    save_network(network, tmp_path / "a.keras")
    with pytest.raises(ValueError, match="Lambda"):
        load_network(tmp_path / "a.keras")


def test_a_copy_in_float32_has_the_weights_and_not_the_policy():
    mixed = build_classifier("compact", (8, 8, 1), 3, 4, "mixed_bfloat16")
    copy = copy_in_float32(mixed, lambda: build_classifier("compact", (8, 8, 1), 3, 4))
    for a, b in zip(copy.get_weights(), mixed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
