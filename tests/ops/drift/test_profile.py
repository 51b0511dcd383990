"""ops.drift.profile: what is stored with a champion, small and the same each time."""

import hashlib
import json

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from ops.drift import profile
from stages.classifier.base.networks import build_classifier
from stages.reference_network.features import ReferenceSpace
from stages.running.terminal import UserError
from stages.training.network_files import save_network
from stages.training.tensorflow import seed_everything
from tests.conftest import tiny_ingest

RANDOM = np.random.default_rng(0)


def random_images(count=6, side=12, channels=1):
    return RANDOM.integers(60, 180, (count, side, side, channels), dtype=np.uint8)


def with_reference(project, **shape):
    """A small data set and an untrained reference network."""
    folder = tiny_ingest(project, **shape)
    (project / "data" / "reference").mkdir()
    seed_everything(0)
    images = np.load(folder / "train-00000.npy")
    save_network(build_classifier("compact", images.shape[1:], 3, 4), project / "data" / "reference" / "model.keras")
    return folder


def test_statistics_of_plain_images():
    blank = np.full((1, 8, 8, 1), 100, np.uint8)
    found = profile.image_statistics(blank)
    assert (found["brightness"][0], found["contrast"][0], found["edges"][0]) == (100, 0, 0)
    assert found["sharpness"][0] == pytest.approx(-6)
    board = np.indices((8, 8)).sum(axis=0)[None, ..., None] % 2
    found = profile.image_statistics((board * 200).astype(np.uint8))
    assert (found["brightness"][0], found["contrast"][0], found["edges"][0]) == (100, 100, 1)
    # The Laplacian of a board of greys 0 and h is 4 h or -4 h, and the variance of its greys h^2 / 4.
    assert found["sharpness"][0] == pytest.approx(np.log10(16 * 200**2 / (200**2 / 4)))


def test_sharpness_does_not_change_with_the_light_and_falls_with_blur():
    images = random_images()
    before = profile.image_statistics(images)
    darker = profile.image_statistics(images // 2 * 2 // 2 + 20)
    assert darker["sharpness"] == pytest.approx(before["sharpness"], abs=0.02)
    assert darker["contrast"] == pytest.approx(before["contrast"] / 2, rel=0.02)
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), 1.0) for image in images])[..., None]
    assert (profile.image_statistics(blurred)["sharpness"] < before["sharpness"] - 0.5).all()


def test_statistics_of_colour():
    images = np.zeros((3, 8, 8, 3), np.uint8)
    images[0] = (255, 0, 0)
    images[1] = (0, 0, 128)
    images[2] = (90, 90, 90)
    found = profile.image_statistics(images)
    assert found["saturation"] == pytest.approx([1, 1, 0])
    assert found["warmth"] == pytest.approx([255, -128, 0])
    assert profile.statistic_names(3)[-2:] == ["saturation", "warmth"]
    assert "warmth" not in profile.statistic_names(1)


def test_histograms_hold_every_image_and_a_constant_lies_within_a_bin():
    values = np.stack([RANDOM.normal(size=500), np.full(500, 28.0)], axis=1).astype(np.float32)
    labels, edges = RANDOM.integers(0, 3, 500), profile.bin_edges(values)
    counts = profile.count(values, labels, 4, edges)
    assert counts.shape == (4, 2, profile.BINS + 2)
    assert (counts.sum(axis=2) == np.bincount(labels, minlength=4)[:, None]).all()
    assert counts[:, 1].sum(axis=0)[1 + profile.BINS // 2] == 500
    beyond = profile.count(values + 1000, labels, 4, edges)
    assert beyond[:, :, -1].sum(axis=0).tolist() == [500, 500]


def test_as_many_images_of_each_class_as_there_are():
    labels = np.array([0] * 50 + [1] * 5 + [2] * 30)
    chosen = profile.balanced(labels, 25, np.random.default_rng(0))
    assert np.bincount(labels[chosen]).tolist() == [10, 5, 10]
    assert (np.diff(chosen) > 0).all()
    assert len(profile.balanced(labels, 1000, np.random.default_rng(0))) == len(labels)
    assert np.bincount(labels[profile.balanced(labels, 1, np.random.default_rng(0))]).tolist() == [2, 2, 2]


def test_a_profile_holds_what_the_network_has_not_seen(project):
    folder = with_reference(project, train=20, val=5, test=7)
    profile.write_profile(project / "profile")
    found = profile.read_profile(project / "profile")
    assert (found.classes, found.shape) == (["ball", "box", "cup"], (12, 12, 1))
    assert found.counts.tolist() == [32, 32, 32]
    unseen = np.concatenate([np.load(folder / f"{split}-00000.npy") for split in ("val", "test")])
    expected, _ = ReferenceSpace(found.network)(unseen)
    np.testing.assert_allclose(found.features, expected, rtol=1e-5, atol=1e-6)
    assert np.bincount(found.labels).tolist() == [12, 12, 12]
    hashes = pq.read_table(folder / "manifest.parquet")["sha256"].to_pylist()
    assert found.hashes.tolist() == sorted(int(sha256[:16], 16) for sha256 in hashes)


def test_a_profile_has_equal_bytes_for_equal_data(project):
    with_reference(project)
    digests = []
    for name in ("once", "again"):
        profile.write_profile(project / name)
        files = sorted((project / name).iterdir())
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert digests[0] == digests[1]


def test_images_of_all_shards_are_found_in_order(project):
    folder = tiny_ingest(project, train=30, size=128, shard_mib=1)
    assert len(list(folder.glob("train-*.npy"))) > 1
    observed = profile.observe(folder)
    assert observed.images(np.array([0, 89, 101])).mean(axis=(1, 2, 3)) == pytest.approx(
        observed.statistics[[0, 89, 101], 0], rel=1e-4
    )
    table = pq.read_table(folder / "manifest.parquet")
    assert observed.statistics[:, 0] == pytest.approx(np.array(table["mean"].to_pylist()), rel=1e-4)
    assert set(observed.statistics[:, 4]) == {128}


def test_errors_say_what_to_do(project):
    with pytest.raises(UserError, match="data/ingest not found: run `dvc repro`"):
        profile.write_profile(project / "profile")
    with_reference(project)
    with pytest.raises(UserError, match="is not a profile"):
        profile.read_profile(project / "data")
    profile.write_profile(project / "profile")
    about = project / "profile" / "profile.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"version": 99}))
    with pytest.raises(UserError, match="version 99, expected 1"):
        profile.read_profile(project / "profile")
