"""The whole report of a tiny generator."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stages.classifier.base.networks import build_classifier
from stages.evaluation.generator.report import GeneratorReport, class_means, second_name
from stages.generator.networks import build_generator
from stages.training.network_files import save_network
from stages.training.tensorflow import keras
from tests.conftest import tiny_ingest

PARAMS = {
    "images": 30,
    "kid_subsets": 3,
    "kid_subset_size": 10,
    "fd_sizes": 4,
    "fd_draws": 2,
    "class_images": 5,
    "memorisation_images": 20,
    "near_copy": 0.1,
    "cas_images": 20,
    "cas_steps": 2,
    "cas_batch_size": 8,
    "cas_lr": 0.005,
    "seed": 0,
}
FILES = {
    *("samples.png", "walk.webp", "neighbours.png", "memorisation.png", "copies.png", "copies_pixels.png"),
    *("classes.csv", "classes.png"),
}


def report(project: Path, folder: str, conditional: bool = True, channels: int = 1, **changes) -> GeneratorReport:
    """Of a generator of random weights, as all networks here."""
    if not (project / "data").exists():
        tiny_ingest(project, channels=channels, test=12, shard_mib=0.003)
    for seed, name in enumerate(("reference", "second")):
        keras.utils.set_random_seed(seed)
        save_network(build_classifier("compact", (12, 12, channels), 3, 4), project / f"{name}.keras")
    save_network(build_generator("article", (12, 12, channels), 3, 4, 8, conditional), project / "generator.keras")
    (project / folder).mkdir()
    network, first, second = (project / f"{name}.keras" for name in ("generator", "reference", "second"))
    params = SimpleNamespace(**(PARAMS | changes))
    return GeneratorReport(project / folder, network, first, second, project / "data/ingest", params)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_inputs_give_the_same_figures_and_bytes(project):
    first, second = (report(project, name, channels=3) for name in ("a", "b"))
    metrics = first.write()
    assert second.write() == metrics
    assert {path.name for path in first.folder.iterdir()} == FILES
    for path in first.folder.iterdir():
        assert path.read_bytes() == (second.folder / path.name).read_bytes(), path.name
    assert all(np.isfinite(value) for value in metrics.values())
    table = rows(first.folder / "classes.csv")
    assert [row["class"] for row in table] == ["ball", "box", "cup"]
    measured = [float(row["fd"]) for row in table if row["fd"]]
    assert len(measured) == metrics["fd_classes"] > 0
    assert np.mean(measured) == pytest.approx(metrics["fd_class_mean"], abs=1e-5)
    for name in ("fd", "fd_infinity", "fd_class_mean", "memorisation_ratio"):
        assert metrics[f"{name}_second"] != metrics[name]
    assert "kid_error_second" not in metrics


def test_a_generator_without_classes_has_no_figures_of_classes(project):
    made = report(project, "a", conditional=False)
    assert {row["fd"] for row in made.by_class(made.features)} == {""}
    assert class_means(made.by_class(made.features)) == {"fd_classes": 0}


def test_a_generator_that_copies_is_found_out(project):
    made = report(project, "a")
    train = np.concatenate(made.train_shards)
    assert len(made.train_shards) > 1  # the pieces are counted through
    honest = made.memorisation()
    made.images["fake"] = train[::-1][:30].copy()
    found = made.memorisation()
    for name in ("near_copies", "near_copies_pixels", "near_copies_second"):
        assert found[name] == 1
        assert honest[name] < 0.5
    assert found["memorisation_ratio"] == pytest.approx(0, abs=1e-6)
    assert found["memorisation_ratio_pixels"] == 0


def test_names_of_what_the_second_reference_gives():
    assert [second_name(name) for name in ("fd", "kid_low")] == ["fd_second", "kid_second_low"]
