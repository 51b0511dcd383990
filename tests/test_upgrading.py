"""docs/upgrading.md, walked from a repository of before: nothing is lost, nothing is trained again."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.dev.upgrade import OLD, move_params, rename_metrics
from tests.conftest import ROOT, end_sender, mlflow_client
from tests.test_pipeline import TINY_PARAMS, Project, hashes, ran, write_tiny_images

PAGE = (ROOT / "docs/upgrading.md").read_text(encoding="utf-8")
# A first classifier that has learnt nothing, so that the second one is promoted in its place.
WEAK = {"epochs": 1, "lr": 1e-6, "average": 0}
BETTER = {"epochs": 30, "lr": 0.01, "width": 8, "average": 0.9, "patience": 0}


def commands() -> list[str]:
    """The lines of the page's first block of commands, without comments."""
    block = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)[0]
    return [line.split("  #")[0].strip() for line in block.splitlines()]


def publish_this_tree(folder: Path) -> None:
    """A repository whose main is this working tree, as if it were committed on top of its history."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    upstream = Project(folder)
    upstream.run("git", "config", "user.name", "Maintainer")
    upstream.run("git", "config", "user.email", "maintainer@example.org")
    upstream.run("git", "checkout", "--quiet", "-B", "main")
    upstream.run("git", "rm", "-r", "--quiet", ".")
    for name in names:
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    upstream.run("git", "add", "--all", "--force")
    upstream.run("git", "commit", "--quiet", "--allow-empty", "--message", "This working tree")


@dataclass
class Upgraded(Project):
    """A repository of before, upgraded, and what was there before and said on the way."""

    before: dict[str, str] = field(default_factory=dict)  # hashes of its outputs
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, list[str]] = field(default_factory=dict)  # numbers by model
    champion: str = ""
    runs: int = 0
    said: dict[str, str] = field(default_factory=dict)  # by command


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    if subprocess.run(["git", "cat-file", "-e", f"{OLD}^{{commit}}"], cwd=ROOT, check=False).returncode:
        pytest.skip(f"this clone is shallow: it has no commit {OLD}")
    folder = tmp_path_factory.mktemp("upgrade")
    publish_this_tree(folder / "upstream")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "user")], check=True)
    project = Upgraded(folder / "user")
    project.run("git", "config", "user.name", "Ada")
    project.run("git", "config", "user.email", "ada@example.org")
    project.run("git", "checkout", "--quiet", "-B", "main", OLD)
    write_tiny_images(project.folder / "data/raw/tiny")
    project.run("dvc", "add", "--quiet", "data/raw/tiny")
    old_evaluate = TINY_PARAMS["evaluate_gan"]
    set_params(project, TINY_PARAMS | {"cnn": TINY_PARAMS["cnn"] | WEAK, "evaluate": old_evaluate})
    policy = yaml.safe_load((project.folder / "promotion.yaml").read_text())
    for section in policy.values():
        section["floors"], section["guards"] = {}, {}
    (project.folder / "promotion.yaml").write_text(yaml.safe_dump(policy))
    project.run("dvc", "repro")
    project.commit("Tiny images")
    project.run("python", "-m", "ops.promote")
    set_params(project, {"cnn": BETTER})
    project.run("dvc", "repro")
    project.commit("A classifier that learns")
    # The generator did not change: it is already the champion.
    assert "Promoted" in project.run("python", "-m", "ops.promote")
    project.before = hashes(project.folder)
    project.metrics = json.loads((project.folder / "data/evaluate/metrics.json").read_text())
    project.versions = versions(project)
    project.champion = champion(project)
    project.runs = len(project.mlflow_runs())
    for command in commands():
        line = command.replace("uv run ", "").replace("URL", str(folder / "upstream"))
        if line == "uv sync":  # the packages are those of the tests
            continue
        done = subprocess.run(
            line, shell=True, cwd=project.folder, env=project.environment, capture_output=True, text=True, check=False
        )
        # The merge stops at the conflicts that the page announces.
        assert done.returncode == 0 or line.startswith("git merge"), f"{line}: {done.stdout}{done.stderr}"
        project.said[line] = done.stdout + done.stderr
    yield project
    end_sender(project.folder)


def set_params(project: Project, values: dict[str, dict[str, Any]]) -> None:
    """Changes values in the text of params.yaml, comments kept, as a person does."""
    path = project.folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    for section, params in values.items():
        for name, value in params.items():
            pattern = rf"(^{section}:.*?^  {name}:)[^#\n]*"
            text = re.sub(pattern, rf"\g<1> {json.dumps(value)} ", text, count=1, flags=re.MULTILINE | re.DOTALL)
    path.write_text(text, encoding="utf-8")


def versions(project: Project) -> dict[str, list[str]]:
    return {
        name: [version.version for version in project.model_versions(name)]
        for name in ("visionloop-cnn", "visionloop-gan")
    }


def champion(project: Project) -> str:
    return mlflow_client(project.store).get_model_version_by_alias("visionloop-cnn", "champion").version


@pytest.mark.slow
def test_only_evaluation_runs_again(upgraded: Upgraded) -> None:
    said = upgraded.said["visionloop upgrade"]
    kept = "ingest, validate, augment, reference, train_cnn, train_gan"
    assert f"kept without running: {kept}" in said
    assert ran(upgraded.said["dvc repro"]) == ["evaluate_cnn", "evaluate_gan"]
    assert ran(upgraded.run("dvc", "repro")) == []


@pytest.mark.slow
def test_every_output_has_the_bytes_of_before(upgraded: Upgraded) -> None:
    now = hashes(upgraded.folder)
    renamed = {"generator_classes.csv": "classes.csv", "generator_classes.png": "classes.png"}
    words = {"report.md", "predictions.csv", "metrics.json"}  # these gained words and columns, or are two now
    compared = 0
    for path, sha256 in upgraded.before.items():
        stage, name = path.split("/")[1:3]
        if stage != "evaluate":
            assert now[path] == sha256, path
        elif name not in words:
            network = "gan" if name in renamed or f"data/evaluate_cnn/{name}" not in now else "cnn"
            assert now[f"data/evaluate_{network}/{renamed.get(name, name)}"] == sha256, path
        compared += 1
    assert compared == len(upgraded.before) > 40
    for network, figures in upgraded.metrics.items():
        metrics = json.loads((upgraded.folder / f"data/evaluate_{network}/metrics.json").read_text())
        assert metrics == {network: figures}


@pytest.mark.slow
def test_params_keep_their_values_and_comments(upgraded: Upgraded) -> None:
    before = upgraded.run("git", "show", "HEAD~1:params.yaml")
    text = (upgraded.folder / "params.yaml").read_text(encoding="utf-8")
    params, old = yaml.safe_load(text), yaml.safe_load(before)
    assert params["cnn"] == old["cnn"]
    assert params["evaluate_gan"]["cas_steps"] == old["evaluate"]["cas_steps"] == 20
    assert params["evaluate_cnn"]["label_batch_size"] == old["evaluate"]["cas_batch_size"] == 16
    assert "evaluate" not in params
    assert "  near_copy: 0.01             # a generated image is a near copy when" in text


@pytest.mark.slow
def test_the_worktree_is_clean_and_what_was_added_is_there(upgraded: Upgraded) -> None:
    assert upgraded.run("git", "status", "--porcelain") == ""
    assert (upgraded.folder / "data/raw/tiny.dvc").exists()
    assert not (upgraded.folder / "data/evaluate").exists()


@pytest.mark.slow
def test_an_unchanged_network_counts_as_the_version_it_is(upgraded: Upgraded) -> None:
    assert versions(upgraded) == upgraded.versions
    promoted = upgraded.said["visionloop promote"]
    assert promoted.count("is already the champion") == 2
    assert champion(upgraded) == upgraded.champion
    assert len(upgraded.mlflow_runs()) == upgraded.runs + 2  # evaluate_cnn and evaluate_gan


@pytest.mark.slow
def test_champions_of_before_predict_and_drift(upgraded: Upgraded, tmp_path: Path) -> None:
    upgraded.run("python", "-m", "ops", "predict", "data/raw/tiny", "--out", str(tmp_path / "predictions.csv"))
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 61
    upgraded.run("python", "-m", "ops", "generate", "--count", "3", "--out", str(tmp_path / "made"))
    assert "no drift" in upgraded.run("python", "-m", "ops", "drift").lower()
    code = (
        "import warnings; warnings.simplefilter('ignore'); import mlflow, numpy; "
        "model = mlflow.pyfunc.load_model('models:/visionloop-cnn@champion'); "
        "print(model.predict(numpy.zeros((2, 16, 16, 1), numpy.uint8)).shape)"
    )
    assert "(2, 3)" in upgraded.run("python", "-c", code, MLFLOW_TRACKING_URI=upgraded.store)


@pytest.mark.slow
def test_a_report_compares_with_a_commit_of_before(upgraded: Upgraded, tmp_path: Path) -> None:
    upgraded.run("python", "-m", "ops", "report", "--base", "HEAD~1", "--no-gate", "--out", str(tmp_path / "report"))
    text = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    assert "accuracy" in text
    assert "It is the same network as at base" in text


@pytest.mark.slow
def test_a_champion_of_before_is_rolled_back_to(upgraded: Upgraded) -> None:
    """Last: it moves the alias."""
    upgraded.run("python", "-m", "ops", "promote", "--rollback")
    assert champion(upgraded) == upgraded.versions["visionloop-cnn"][0] != upgraded.champion


# ---------------------------------------------------------------- the parts, without a pipeline


def test_moved_params_are_moved_once() -> None:
    text = subprocess.run(
        ["git", "show", f"{OLD}:params.yaml"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    if not text:
        pytest.skip(f"this clone is shallow: it has no commit {OLD}")
    moved = move_params(text)
    assert yaml.safe_load(moved) == yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert move_params(moved) == moved


def test_metrics_are_renamed_once() -> None:
    text = "metrics:\n  evaluate:cnn.accuracy:\n  - 1\n  evaluate:gan.fd:\n  - 2\n  train_gan:gan.val_fd:\n"
    renamed = rename_metrics(text)
    assert list(yaml.safe_load(renamed)["metrics"]) == [
        "evaluate_cnn:cnn.accuracy",
        "evaluate_gan:gan.fd",
        "train_gan:gan.val_fd",
    ]
    assert rename_metrics(renamed) == renamed


def test_an_upgrade_without_the_old_history_is_one_sentence(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.init_git()
    (tmp_path / "params.yaml").write_text("evaluate: {images: 50}\n")
    said = project.run("python", "-m", "ops", "upgrade", ok=False, PYTHONPATH=str(ROOT))
    assert re.fullmatch(rf"error: git's history here does not reach back to commit {OLD}: .*\n", said)
    assert (tmp_path / "params.yaml").read_text() == "evaluate: {images: 50}\n"
    assert {path.name for path in tmp_path.iterdir()} == {".git", "params.yaml"}
