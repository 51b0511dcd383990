"""ops.share: what one machine made, another one takes from the DVC remote without running it."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.test_pipeline import Project, ran

PIPELINE = {
    "stages": {
        "train": {
            "cmd": "python train.py",
            "deps": ["train.py", "images"],
            "params": ["train"],
            "outs": ["model", "history.csv"],
            "metrics": [{"metrics.json": {"cache": False}}],
        }
    }
}
TRAIN = """
import json
from pathlib import Path

import yaml

steps = yaml.safe_load(Path("params.yaml").read_text())["train"]["steps"]
Path("model").mkdir()
Path("model/weights").write_text(Path("images/one").read_text() * steps)
Path("model/classes").write_text("ball, box")
Path("history.csv").write_text(f"step,loss\\n{steps},{1 / steps}\\n")
Path("metrics.json").write_text(json.dumps({"loss": 1 / steps}))
"""
OUTPUTS = ("model/weights", "model/classes", "history.csv", "metrics.json")


@dataclass
class Team:
    """Two clones of a repository with one stage, and the folder that is its DVC remote."""

    author: Project
    colleague: Project
    storage: Path


def make_author(folder: Path) -> Project:
    """A repository of git and DVC with data and one stage, which has not run."""
    author = Project(folder)
    author.environment["PYTHONPATH"] = str(ROOT)  # for `python -m ops share`
    (folder / "images").mkdir(parents=True)
    (folder / "images/one").write_text("an image")
    (folder / "train.py").write_text(TRAIN)
    (folder / "params.yaml").write_text("train:\n  steps: 2\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    (folder / ".gitignore").write_text("/images\n/model\n/history.csv\n")
    author.init_git()
    author.run("dvc", "init", "--quiet")
    author.run("dvc", "add", "--quiet", "images")
    author.commit("start")
    return author


def clone(author: Project, folder: Path) -> Project:
    """What a colleague has who clones the repository: no results, and nothing in DVC's cache."""
    colleague = Project(folder, dict(author.environment))
    author.run("git", "clone", "--quiet", str(author.folder), str(folder))
    return colleague


def read_outputs(project: Project) -> dict[str, str]:
    return {path: (project.folder / path).read_text() for path in OUTPUTS}


@pytest.fixture
def team(tmp_path: Path) -> Team:
    storage = tmp_path / "storage"
    author = make_author(tmp_path / "author")
    author.run("dvc", "remote", "add", "--default", "storage", str(storage))
    author.commit("A DVC remote")
    return Team(author, clone(author, tmp_path / "colleague"), storage)


def test_a_clone_without_the_lock_file_gets_every_result_and_runs_nothing(team: Team) -> None:
    team.author.run("dvc", "repro")
    said = team.author.run("python", "-m", "ops", "share")
    assert "1 x python train.py" in said
    assert not (team.colleague.folder / "dvc.lock").exists()
    said = team.colleague.run("dvc", "repro", "--pull")
    assert ran(said) == []
    assert read_outputs(team.colleague) == read_outputs(team.author)
    lock = "dvc.lock"
    assert (team.colleague.folder / lock).read_bytes() == (team.author.folder / lock).read_bytes()


def test_an_experiment_of_a_throw_away_copy_is_there_for_who_types_the_same_params(team: Team) -> None:
    team.author.run("dvc", "exp", "run", "--temp", "-S", "train.steps=5")
    assert not (team.author.folder / "history.csv").exists()
    team.author.run("python", "-m", "ops", "share")
    said = team.colleague.run("dvc", "exp", "run", "--pull", "-S", "train.steps=5")
    assert ran(said) == []
    assert read_outputs(team.colleague)["metrics.json"] == '{"loss": 0.2}'
    assert "Running stage 'train'" in team.colleague.run("dvc", "exp", "run", "--pull", "-S", "train.steps=6")


def test_dvc_push_alone_is_not_enough(team: Team) -> None:
    """Should this fail, DVC pushes the metrics too, and `ops.remote.share` may be needed for experiments only."""
    team.author.run("dvc", "repro")
    team.author.run("dvc", "push", "--run-cache")
    assert ran(team.colleague.run("dvc", "repro", "--pull")) == ["train"]


@pytest.mark.slow
def test_results_that_are_not_here_are_left_to_others(team: Team) -> None:
    """A colleague has the records of everybody, and the files of what they asked for."""
    for steps in ("3", "4"):
        team.author.run("dvc", "exp", "run", "--temp", "-S", f"train.steps={steps}")
    team.author.run("python", "-m", "ops", "share")
    team.colleague.run("dvc", "exp", "run", "--pull", "-S", "train.steps=3")
    before = sorted(path for path in team.storage.rglob("*") if path.is_file())
    assert "shared 1 stage executions" in team.colleague.run("python", "-m", "ops", "share")
    assert sorted(path for path in team.storage.rglob("*") if path.is_file()) == before


def test_without_a_remote_it_says_how_to_add_one(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.run("git", "init", "--quiet")
    project.run("dvc", "init", "--quiet")
    said = project.run("python", "-m", "ops", "share", ok=False, PYTHONPATH=str(ROOT))
    assert "error: DVC has no default remote: run `uv run dvc remote add -d storage" in said
