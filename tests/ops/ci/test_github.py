"""ops.github against the part of GitHub's REST API that it uses."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.ci import github
from stages.running.terminal import UserError
from tests.workflows.github_server import GitHubServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHubServer]:
    found = GitHubServer()
    monkeypatch.setenv("GITHUB_API_URL", found.url)
    monkeypatch.setenv("GITHUB_REPOSITORY", found.repository)
    monkeypatch.setenv("GITHUB_TOKEN", found.token)
    monkeypatch.setenv("GITHUB_RUN_ID", "4711")
    yield found
    found.close()


def test_a_comment_is_updated_and_not_repeated(server: GitHubServer) -> None:
    for k in range(120):  # more than a page of them
        github.comment(7, f"<!-- other {k} -->\nby somebody else's program")
    github.comment(7, "<!-- report -->\nfirst")
    github.comment(7, "<!-- report -->\nsecond")
    assert [text for text in server.comments_on(7) if "<!-- report -->" in text] == ["<!-- report -->\nsecond"]
    assert len(server.comments_on(7)) == 121


def test_a_comment_by_a_person_is_left_alone(server: GitHubServer) -> None:
    server.comments.append({"id": 1, "issue": 7, "body": "<!-- report -->\nquoted", "user": {"login": "mallory"}})
    github.comment(7, "<!-- report -->\nours")
    assert server.comments_on(7) == ["<!-- report -->\nquoted", "<!-- report -->\nours"]


def test_one_issue_stays_open_however_often_the_nights_fail(
    server: GitHubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "verify.log"
    log.write_text("\n".join(f"line {k}" for k in range(200)))
    for title in ("main differs", "new data differs"):
        monkeypatch.setattr(sys, "argv", ["github", "issue", title, str(log)])
        github.main()
    [issue] = server.issues
    assert issue["title"] == "Nightly: main differs"
    assert "line 199" in issue["body"]
    assert "line 100" not in issue["body"]
    assert "actions/runs/4711" in issue["body"]
    [comment] = server.comments_on(issue["number"])
    assert "new data differs" in comment
    issue["state"] = "closed"
    assert github.raise_issue("again", "") != issue["number"]


def test_a_long_text_is_cut_to_what_github_takes(server: GitHubServer) -> None:
    github.comment(7, "<!-- report -->\n" + "a line\n" * 20_000)
    [text] = server.comments_on(7)
    assert len(text) < 65_536
    assert text.splitlines()[-1].startswith("(shortened")


@pytest.mark.parametrize(
    ("outcome", "state"), [("success", "success"), ("failure", "failure"), ("cancelled", "error"), ("skipped", "error")]
)
def test_the_outcome_of_a_job_becomes_a_status(
    server: GitHubServer, monkeypatch: pytest.MonkeyPatch, outcome: str, state: str
) -> None:
    monkeypatch.setenv("GITHUB_SHA", "a" * 40)
    monkeypatch.setattr(sys, "argv", ["github", "status", "tests", outcome])
    github.main()
    assert server.statuses[-1]["context"] == "tests"
    assert server.statuses[-1]["state"] == state
    assert server.statuses[-1]["sha"] == "a" * 40


def test_a_refusal_is_told_with_githubs_words(server: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "wrong")
    with pytest.raises(UserError, match=r"401.*Bad credentials"):
        github.comment(7, "text")
    monkeypatch.delenv("GITHUB_TOKEN")
    with pytest.raises(UserError, match="GITHUB_TOKEN not set"):
        github.comment(7, "text")


def test_the_pull_request_of_a_merged_commit_is_found(server: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_SHA", "b" * 40)
    assert github.pull_request() is None
    number = server.open_pull_request("more-images")["number"]
    server.merged["b" * 40] = number
    assert github.pull_request() == number
