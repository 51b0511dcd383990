"""Four queued experiments at once, on MLflow's default store, which is not there before."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.running.tracking.record import stage_section
from tests.conftest import end_sender, mlflow_client
from tests.running.test_tracking import wait_until
from tests.test_pipeline import STAGES, TINY_PARAMS, Project, copy_sources, write_tiny_images

pytestmark = pytest.mark.slow

ARTIFACTS = {
    "ingest": {"preview.png"},
    "validate": {"data_docs", "report.json"},
    "augment": {"before_after.png"},
    "train_cnn": {"curves.png"},
    "train_gan": {"curves.png", "samples"},
    "evaluate_cnn": {"metrics.json", "report.md", "confusion.png", "reliability.png"},
    "evaluate_gan": {"metrics.json", "report.md", "samples.png"},
}


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Project]:
    """A project with tiny images and params, in which nothing has run."""
    tiny = Project(tmp_path)
    copy_sources(tmp_path)
    write_tiny_images(tmp_path / "data/raw/tiny")
    params = yaml.safe_load((tmp_path / "params.yaml").read_text())
    for section, values in TINY_PARAMS.items():
        params[section] |= values
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    tiny.init_git()
    tiny.commit("start")
    yield tiny
    end_sender(tmp_path)


def run_queue(project: Project, param: str, values: list[Any], *targets: str, seconds: float) -> dict[str, list[Any]]:
    """Queues one experiment per value of a param, runs all at once, and returns their MLflow runs."""
    names = {f"with-{value}": value for value in values}
    for name, value in names.items():
        project.run("dvc", "exp", "run", "--queue", "--name", name, "-S", f"{param}={value}", *targets)
    assert not (project.folder / "mlflow.db").exists()
    project.run("dvc", "queue", "start", "--jobs", str(len(values)))
    deadline, states = time.monotonic() + seconds, ["Queued"]
    while {"Queued", "Running"} & set(states):
        assert time.monotonic() < deadline, states
        time.sleep(5)
        said = project.run("dvc", "queue", "status")
        states = re.findall(r" (Queued|Running|Success|Failed) *$", said, re.MULTILINE)
    assert states == ["Success"] * len(values), project.run("dvc", "queue", "logs", next(iter(names)))
    outbox = project.folder / ".visionloop/outbox"
    wait_until(lambda: not list(outbox.iterdir()))
    runs = {name: project.mlflow_runs(name) for name in names}
    for name, value in names.items():
        (run,) = [run for run in runs[name] if param in run.data.params]
        assert run.data.params[param] == str(value)
    client = mlflow_client(project.store)
    everything = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert len(everything) == sum(map(len, runs.values()))
    return runs


def assert_whole(project: Project, runs: list[Any], stages: list[str]) -> None:
    """One finished run per stage, with all that it records."""
    params = yaml.safe_load((project.folder / "params.yaml").read_text())
    assert [run.data.tags["stage"] for run in runs] == stages
    assert len({run.data.tags["pipeline_execution"] for run in runs}) == 1
    for run in runs:
        stage = run.data.tags["stage"]
        section = stage_section(stage)
        assert run.info.status == "FINISHED"
        assert run.data.params.keys() == {f"{section}.{key}" for key in params[section]}
        assert "system/process_memory_megabytes" in run.data.metrics
        assert len(run.inputs.dataset_inputs) == 1
        files = {file.path for file in mlflow_client(project.store).list_artifacts(run.info.run_id)}
        assert ARTIFACTS.get(stage, set()) <= files


def test_four_queued_experiments_at_once_are_all_tracked(tiny: Project) -> None:
    found = run_queue(tiny, "ingest.val_fraction", [0.2, 0.25, 0.3, 0.35], "augment", seconds=300)
    for runs in found.values():
        assert_whole(tiny, runs, ["ingest", "validate", "augment"])


@pytest.mark.long
def test_four_queued_evaluations_at_once_are_tracked_and_registered(tiny: Project) -> None:
    tiny.run("dvc", "repro", VISIONLOOP_TRACKING="off")
    tiny.commit("results")
    found = run_queue(tiny, "evaluate_gan.seed", [1, 2, 3, 4], seconds=600)
    for runs in found.values():
        assert_whole(tiny, runs, ["evaluate_gan"])
        assert "gan.fd" in runs[0].data.metrics
        assert "registered.visionloop-gan" in runs[0].data.tags
    assert len(tiny.model_versions("visionloop-gan")) == 1  # of the same bytes


@pytest.mark.long
def test_four_queued_pipelines_at_once_are_all_tracked(tiny: Project) -> None:
    found = run_queue(tiny, "ingest.val_fraction", [0.2, 0.25, 0.3, 0.35], seconds=1200)
    for runs in found.values():
        assert_whole(tiny, runs, STAGES)
    for name in ("visionloop-cnn", "visionloop-gan"):
        assert len(tiny.model_versions(name)) == 4
