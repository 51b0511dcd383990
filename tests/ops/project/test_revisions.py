"""ops.revisions: the files of a commit, out of a real git and DVC repository with a remote."""

import shutil
from pathlib import Path

import pytest

from ops.project.revisions import Commit, WorkTree, changed_files, locked, resolve_base, this_commit
from stages.running.terminal import UserError
from tests.test_pipeline import Project

DVC_YAML = """
stages:
  make:
    cmd: "true"
    outs: [data/made/network.keras, data/ingest]
"""


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two commits: `one` and `two` in the data and in a text; the first is the branch `main`."""
    project = Project(tmp_path_factory.mktemp("history"))
    project.init_git()
    project.run("dvc", "init", "--quiet")
    project.run("dvc", "remote", "add", "--quiet", "--default", "storage", str(tmp_path_factory.mktemp("storage")))
    (project.folder / "dvc.yaml").write_text(DVC_YAML)
    (project.folder / ".gitignore").write_text("/data/made/network.keras\n/data/ingest\n")
    for content in ("one", "two"):
        (project.folder / "data/made").mkdir(parents=True, exist_ok=True)
        (project.folder / "data/ingest").mkdir(exist_ok=True)
        (project.folder / "data/made/network.keras").write_text(f"network {content}")
        (project.folder / "data/ingest/classes.json").write_text(f'["{content}"]')
        (project.folder / "params.yaml").write_text(f"cnn: {content}\n")
        project.run("dvc", "commit", "--quiet", "--force")
        if content == "one":
            project.run("dvc", "push", "--quiet")
        project.commit(content)
    project.run("git", "update-ref", "refs/remotes/origin/main", "HEAD~1")
    return project


@pytest.fixture(autouse=True)
def in_history(history: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(history.folder)
    monkeypatch.delenv("GITHUB_BASE_REF", raising=False)


def commits(history: Project) -> list[str]:
    """The hashes, oldest first."""
    return history.run("git", "rev-list", "--reverse", "HEAD").split()


def test_a_clean_work_tree_is_compared_with_the_commit_before(history: Project) -> None:
    assert resolve_base(None) == commits(history)[0]
    assert this_commit() == commits(history)[1][:7]


def test_a_changed_work_tree_is_compared_with_its_commit(history: Project) -> None:
    with history.edited("params.yaml", "two", "three"):
        assert resolve_base(None) == commits(history)[1]
        assert this_commit() == f"{commits(history)[1][:7]} with uncommitted changes"
        assert changed_files(Commit(commits(history)[1], Path()), "params.yaml", "dvc.yaml") == ["params.yaml"]


def test_a_first_commit_is_compared_with_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, history) -> None:
    project = Project(tmp_path / "clone")
    history.run("git", "clone", "--quiet", "--depth", "1", f"file://{history.folder}", str(project.folder))
    monkeypatch.chdir(project.folder)
    assert resolve_base(None) == commits(history)[1]


def test_a_pull_request_is_compared_with_where_it_left_its_target(history: Project, monkeypatch) -> None:
    monkeypatch.setenv("GITHUB_BASE_REF", "main")
    with history.edited("params.yaml", "two", "three"):
        assert resolve_base(None) == commits(history)[0]
    monkeypatch.setenv("GITHUB_BASE_REF", "gone")
    with pytest.raises(UserError, match="fetch the whole history"):
        resolve_base(None)


def test_a_base_can_be_named(history: Project) -> None:
    assert resolve_base("HEAD~1") == commits(history)[0]
    for wrong in ("no-such-branch", "HEAD~5", "--all"):
        with pytest.raises(UserError, match="is not a commit here"):
            resolve_base(wrong)


def test_without_a_repository_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="not in a git repository"):
        resolve_base(None)


def test_texts_and_data_of_a_commit_come_from_git_and_the_cache(history: Project, tmp_path: Path) -> None:
    first = Commit(commits(history)[0], tmp_path)
    assert first.text("params.yaml") == "cnn: one"
    assert first.text("nothing.yaml") is None
    network, classes = first.file("data/made/network.keras"), first.file("data/ingest/classes.json")
    assert network is not None
    assert classes is not None
    assert (network.read_text(), classes.read_text()) == ("network one", '["one"]')
    assert WorkTree().text("params.yaml") == "cnn: two\n"
    found = WorkTree().file("data/made/network.keras")
    assert found is not None
    assert found.read_text() == "network two"
    assert {*locked(first)} == {"data/made/network.keras", "data/ingest"}
    assert locked(first)["data/ingest"] != locked(WorkTree())["data/ingest"]


def test_what_is_not_in_the_cache_comes_from_the_remote_or_is_none(history: Project, tmp_path: Path) -> None:
    shutil.rmtree(history.folder / ".dvc/cache")
    first = Commit(commits(history)[0], tmp_path / "a")
    network = first.file("data/made/network.keras")
    assert network is not None
    assert network.read_text() == "network one"
    assert first.file("data/made/other.keras") is None
    shutil.rmtree(history.folder / ".dvc/cache", ignore_errors=True)
    with history.edited(".dvc/config", "url = ", "url = /nowhere"):
        nowhere = Commit(commits(history)[0], tmp_path / "b")
        assert nowhere.file("data/made/network.keras") is None
        assert nowhere.file("data/ingest/classes.json") is None
    assert list((tmp_path / "b").rglob("*.keras")) == []
