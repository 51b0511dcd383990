"""ops.retrain: changed params, the plan, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ops.ci.retrain import set_params
from stages.running.terminal import UserError
from tests.conftest import ROOT
from tests.test_pipeline import Project, copy_sources, write_tiny_images
from tests.test_workflows import write_shapes


def test_params_are_changed_as_an_experiment_would(project: Path) -> None:
    before = Path("params.yaml").read_text()
    set_params(["gan.lr=2e-4", "cnn.width=48"])
    after = Path("params.yaml").read_text()
    assert yaml.safe_load(after)["cnn"]["width"] == 48
    assert float(yaml.safe_load(after)["gan"]["lr"]) == 2e-4
    # DVC writes `null` as nothing.
    changed = [line for line in before.splitlines() if line not in after.splitlines() and ": null" not in line]
    assert [line.split(":")[0].strip() for line in changed] == ["width", "lr"]
    assert "# peak learning rate" in after


@pytest.mark.parametrize("bad", ["gan.rate=2e-4", "gan.lr", "lr=1", "gan.lr.x=1", "--help", "$(id)=1", "gan.lr=[1"])
def test_what_is_no_change_of_params_is_refused_and_nothing_is_written(project: Path, bad: str) -> None:
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UserError, match=r"params\.yaml|gan\.lr"):
        set_params([bad])
    assert Path("params.yaml").read_bytes() == before


@pytest.fixture
def repository(tmp_path: Path) -> Project:
    """The sources as a repository of git and DVC, with the lock file of the default run and no remote."""
    repository = Project(tmp_path)
    copy_sources(tmp_path)
    (tmp_path / "dvc.lock").write_bytes((ROOT / "dvc.lock").read_bytes())
    repository.run("git", "init", "--quiet")
    return repository


def retrain(repository: Project, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops", "retrain", *arguments],
        cwd=repository.folder,
        env=repository.environment | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_plan_needs_no_data_and_tells_github(repository: Project, tmp_path: Path) -> None:
    output = tmp_path / "output"
    done = retrain(repository, "--plan", GITHUB_OUTPUT=str(output))
    assert done.returncode == 0, done.stderr
    assert "nothing to run" in done.stdout
    assert output.read_text().splitlines() == ["stages=", "ran=false"]
    done = retrain(repository, "--plan", "--set", "cnn.lr=1e-3 gan.steps=10", GITHUB_OUTPUT=str(output))
    assert output.read_text().splitlines()[2:] == ["stages=train_cnn train_gan", "ran=false"]
    assert not (repository.folder / "data/ingest").exists()


def test_in_ci_a_local_store_is_refused(repository: Project) -> None:
    for uri in ({}, {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}):
        done = retrain(repository, CI="true", **uri)
        assert done.returncode == 1
        assert "MLFLOW_TRACKING_URI" in done.stderr
        assert "docs/ci.md" in done.stderr


def test_without_a_remote_it_says_how_to_add_one(repository: Project) -> None:
    done = retrain(repository)
    assert done.returncode == 1
    assert "dvc remote add" in done.stderr


@pytest.mark.slow
def test_the_schedule_takes_up_what_is_new_in_imported_data(repository: Project, tmp_path_factory) -> None:
    upstream = tmp_path_factory.mktemp("upstream") / "shapes"
    write_tiny_images(upstream)
    repository.run("dvc", "import-url", str(upstream), "data/raw/shapes")
    params = (repository.folder / "params.yaml").read_text()
    (repository.folder / "params.yaml").write_text(params.replace("source: digits", "source: shapes"))
    repository.run("dvc", "repro", "ingest", VISIONLOOP_TRACKING="off")
    assert "ingest" not in retrain(repository, "--plan", "--update").stdout
    write_shapes(upstream, 1, seed=5)
    assert "stale: ingest" in retrain(repository, "--plan", "--update").stdout
    assert not (repository.folder / "data/raw/shapes/ball/5-000.png").exists()  # a plan downloads nothing
