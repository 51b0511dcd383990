"""ops.deliver: what is committed, pushed and linked, with a bare git repository as origin."""

from pathlib import Path

import pytest

from ops.ci import deliver
from tests.test_pipeline import Project


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A clone of a bare origin with one commit, and a report with a picture."""
    origin, clone = Project(tmp_path / "origin"), Project(tmp_path / "clone")
    origin.folder.mkdir()
    clone.folder.mkdir()
    origin.run("git", "init", "--quiet", "--bare", "-b", "main")
    (clone.folder / "dvc.lock").write_text("old")
    (clone.folder / "README.md").write_text("old")
    for command in (
        ["init", "--quiet", "-b", "main"],
        ["remote", "add", "origin", str(origin.folder)],
        ["config", "user.name", "Ada"],
        ["config", "user.email", "ada@example.org"],
        ["add", "--all"],
        ["commit", "--quiet", "--message", "start"],
        ["push", "--quiet", "origin", "main"],
    ):
        clone.run("git", *command)
    monkeypatch.chdir(clone.folder)
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/visionloop")
    deliver.REPORT.mkdir(parents=True)
    (deliver.REPORT / "samples.png").write_bytes(b"picture")
    return clone


def test_the_bot_commits_the_results_and_nothing_else(clone: Project) -> None:
    (clone.folder / "README.md").write_text("mine")
    assert not deliver.commit_results("nothing")
    (clone.folder / "dvc.lock").write_text("new")
    (clone.folder / "notes.txt").write_text("mine")
    assert deliver.commit_results("Retrain")
    assert clone.run("git", "show", "--format=%cn", "--name-only").split() == ["github-actions[bot]", "dvc.lock"]


def test_a_branch_that_moved_on_is_not_overwritten(clone: Project) -> None:
    clone.run("git", "switch", "--quiet", "--create", "other")
    clone.run("git", "commit", "--quiet", "--allow-empty", "--message", "newer")
    clone.run("git", "push", "--quiet", "origin", "other:main")
    newer = clone.run("git", "rev-parse", "HEAD").strip()
    clone.run("git", "switch", "--quiet", "main")
    clone.run("git", "commit", "--quiet", "--allow-empty", "--message", "late")
    assert not deliver.push("HEAD:refs/heads/main")
    assert clone.run("git", "ls-remote", "origin", "main").split()[0] == newer


def test_pictures_of_several_reports_lie_side_by_side_on_a_branch_of_their_own(clone: Project) -> None:
    address = deliver.publish_pictures("pull-12/1")
    assert address == "https://github.com/acme/visionloop/blob/reports/pull-12/1"
    deliver.publish_pictures("pull-13/2")
    listed = clone.run("git", "ls-tree", "-r", "--name-only", "origin/reports").split()
    clone.run("git", "fetch", "--quiet", "origin", "+reports:refs/remotes/origin/reports")
    listed = clone.run("git", "ls-tree", "-r", "--name-only", "origin/reports").split()
    assert listed == ["pull-12/1/samples.png", "pull-13/2/samples.png"]
    assert clone.run("git", "status", "--porcelain", "--untracked-files=no") == ""


def test_links_to_pictures_become_addresses_and_others_stay() -> None:
    text = "![samples](samples.png) ![logo](https://x.org/a.png) [page](report.html)"
    assert deliver.with_addresses(text, "https://h/b") == (
        "![samples](https://h/b/samples.png?raw=true) ![logo](https://x.org/a.png) [page](report.html)"
    )
