"""The comparisons run on a few tiny images, and count what they say they count."""

import time

import numpy as np
import pytest

from bench import article, keras_gans
from bench.classifier import seconds_to
from bench.classifier_runs import load, preset, train_recipe
from bench.generator import arranged
from bench.generator_runs import Clock
from bench.images import Images
from bench.peak import convolution_seconds, flops_per_image
from bench.scale import Cost, measure, table, write_images
from stages.classifier.base.networks import build_classifier
from stages.imaging.decode import decode_chunk
from stages.imaging.resize import Target
from stages.ingestion.sources import open_source
from stages.running.terminal import UserError
from tests.conftest import ROOT

PRESETS = sorted(path.name for path in (ROOT / "presets").iterdir())


@pytest.fixture(scope="module")
def images() -> Images:
    """Two classes told apart by their brightness."""
    labels = np.arange(600, dtype=np.int32) % 2
    grey = np.random.default_rng(0).integers(0, 100, (600, 12, 12, 1)) + 120 * labels[:, None, None, None]
    return Images(grey[:500].astype(np.uint8), labels[:500], grey[500:].astype(np.uint8), labels[500:])


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_names_params_that_the_stages_accept(name):
    chosen = preset("fashion_mnist", name)
    sections = dict(zip(("augment", "cnn"), load(chosen), strict=True))
    assert preset(name)
    for key, value in chosen.items():
        section, param = key.split(".")
        assert getattr(sections[section], param) == value


def test_the_article_stops_after_its_epochs_or_its_seconds(images):
    rows = article.train(*images, seed=0, epochs=3)
    assert len(rows) == 3
    assert [seconds for seconds, _ in rows] == sorted(seconds for seconds, _ in rows)
    assert rows[-1][1] > 0.9
    assert len(article.train(*images, seed=0, seconds=0.01)) == 1


@pytest.mark.slow
def test_the_recipe_trains_so_many_epochs_or_as_many_as_fit(images):
    overrides = {"cnn.width": 4, "cnn.epochs": 3, "cnn.batch_size": 32}
    run = train_recipe(images, 0, overrides, None)
    assert run["epochs"] == len(run["by_epoch"]) == 3
    assert run["accuracy"] > 0.9
    assert train_recipe(images, 0, overrides, 0.01)["epochs"] == 1


def test_few_images_are_so_many_of_each_class(images):
    few = images.few(7, seed=3)
    assert np.bincount(few.train_labels).tolist() == [7, 7]
    assert (few.train.mean(axis=(1, 2, 3)) > 110).tolist() == (few.train_labels == 1).tolist()


def test_the_operations_of_a_network_are_those_of_its_convolutions():
    network = build_classifier("article", (12, 12, 1), 2, 4)
    # 3x3x1x4 on 10x10 px, forward and for the kernel; 3x3x4x8 on 3x3 px, and for its input too.
    assert flops_per_image(network) == 2 * (100 * 36 * 2 + 9 * 288 * 3)
    assert 0 < convolution_seconds(network, 8) < 1


def test_the_time_to_a_goal_is_that_of_the_first_epoch_that_reaches_it():
    run = {"by_epoch": [(1.0, 0.5), (2.0, 0.8), (3.0, 0.7)], "seconds": 3.0, "accuracy": 0.9}
    assert [seconds_to(goal, run) for goal in (0.4, 0.6, 0.85, 0.95)] == [1.0, 2.0, 3.0, float("inf")]


def test_the_clock_stands_still_while_it_measures():
    def measure() -> dict[str, float]:
        time.sleep(0.3)
        return {"fd": 1.0}

    clock = Clock([0.0, 60.0, 120.0], measure)
    assert not clock.check(step=1, images=64)
    assert not clock.check(step=2, images=128)  # the next mark is a minute away
    assert not clock.check(step=3, images=192, last=True)
    assert clock.seconds < 0.2
    assert [(row["minutes"], row["steps"], row["fd"]) for row in clock.rows] == [(0.0, 1, 1.0), (1.0, 3, 1.0)]
    assert clock.rows[1]["images_per_second"] == 192 / clock.rows[1]["seconds"]


def test_figures_are_arranged_by_minutes_and_seed():
    row = {
        "kid": 0.1,
        "precision": 1,
        "recall": 1,
        "label_accuracy": 1,
        "images_per_second": 9,
        "seconds": 1,
        "steps": 1,
    }
    runs = {seed: {"rows": [row | {"minutes": m, "fd": seed + m} for m in (2.0, 0.5)]} for seed in (0, 3)}
    assert arranged(runs)["fd"] == {"2": {"0": 2.0, "3": 5.0}, "0.5": {"0": 0.5, "3": 3.5}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "weights"),
    [
        # dense 138 to 49 * 138, two 4x4 transposed convolutions to 128, one 7x7 to 1; each with biases
        (keras_gans.conditional_gan, 139 * 49 * 138 + (16 * 138 + 1) * 128 + (16 * 128 + 1) * 128 + 49 * 128 + 1),
        # dense 128 to 4096, 3x3 convolutions to 128, 64 and 1, none with biases; 4 numbers per normalised feature
        (keras_gans.wgan_gp, 128 * 4096 + 9 * (256 * 128 + 128 * 64 + 64) + 4 * (4096 + 128 + 64 + 1)),
    ],
    ids=["conditional_gan", "wgan_gp"],
)
def test_the_copied_networks_have_their_size_and_train(build, weights):
    random = np.random.default_rng(0)
    model = build()
    assert model.generator.count_params() == weights
    images = model.scale(random.integers(0, 256, (8, 28, 28, 1), np.uint8))
    latents, labels = random.standard_normal((3, 128), np.float32), np.array([0, 9, 4])
    before = model.draw(latents, labels)
    model.fit(images, np.arange(8, dtype=np.int32), batch_size=4, epochs=2, verbose=0)
    after = model.draw(latents, labels)
    assert (before.shape, before.dtype) == ((3, 28, 28, 1), np.uint8)
    assert (before != after).any()


def test_generated_images_are_different_ones_of_ten_classes(tmp_path):
    write_images(tmp_path / "set.zip", 200)
    with open_source(tmp_path / "set.zip") as source:
        decoded, facts = decode_chunk([item.payload for item in source.items], Target(28, 1, "pad"))
    assert (len(source.classes), decoded.shape) == (10, (200, 28, 28, 1))
    assert len({*facts.sha256}) == 200


def test_the_cost_of_a_command_includes_that_of_its_processes(tmp_path):
    child = "import time; held = 'x' * 2**27; end = time.time() + 1\nwhile time.time() < end: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    cost = measure(["-c", parent], tmp_path)
    assert 2**27 < cost.bytes < cost.bytes_with_files < 2**29
    assert cost.seconds > 1
    assert cost.cpu_seconds > 0.3
    with pytest.raises(UserError, match=r"failed: .*no such thing"):
        measure(["-c", "raise SystemExit('no such thing')"], tmp_path)


def test_what_an_image_more_costs_is_told_from_count_to_count():
    rows = table({"ingest": {10: Cost(1, 1, 100, 900), 20: Cost(2, 3, 300, 900), 40: Cost(5, 7, 500, 1000)}})
    assert [row["images"] for row in rows] == [10, 20, 40]
    assert "more" not in rows[0]
    assert rows[1]["more"] == {"seconds": 0.1, "cpu_seconds": 0.2, "bytes": 20}
    assert rows[2]["ratio"] == pytest.approx({"seconds": 1.5, "cpu_seconds": 1, "bytes": 0.5})
    assert [row["bytes_with_files"] for row in rows] == [900, 900, 1000]
    nothing_more = table({"ingest": {10: Cost(1, 1, 100, 900), 20: Cost(1, 0.9, 100, 900), 40: Cost(2, 2, 300, 900)}})
    assert nothing_more[2]["ratio"] == {"seconds": None, "cpu_seconds": None, "bytes": None}
