"""What CI says on GitHub: outputs, comments, issues, pull requests, checks; all through its REST API.

  python -m ops github comment FILE   on the pull request of this run, or of the commit that this run is for: one
                                      comment per first line of FILE, updated when it is there
  python -m ops github issue TITLE FILE...   the one open issue of the nightly checks, or a comment on it when it is
                                      open: the title, what the first FILE that is there holds (Markdown, or the end
                                      of a log), and the run
  python -m ops github status NAME OUTCOME   the outcome of a job as a commit status named NAME

Reads the variables that GitHub Actions sets: GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_EVENT_NAME, GITHUB_EVENT_PATH,
GITHUB_SHA, GITHUB_SERVER_URL, GITHUB_RUN_ID, GITHUB_OUTPUT; and GITHUB_TOKEN.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from ops.project.pipeline import git
from stages.running.terminal import UserError, run_stage, say

# The account that GitHub's default token acts for.
BOT = ("github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com")
LONGEST = 65_000  # characters; GitHub refuses more than 65,536
LAST_LINES = 60
ISSUE_MARKER = "<!-- visionloop-nightly -->"


def set_output(name: str, value: str) -> None:
    """Sets an output of the step, where there is one."""
    if path := os.environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{name}={value}\n")


def event() -> dict[str, Any]:
    """The payload of the event that started this run; empty outside of GitHub Actions."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def is_bot_commit() -> bool:
    """Whether this run is for a commit that CI itself made of a retraining.

    The committer tells, not the author: it is another one once somebody merges, squashes or rebases that commit.
    """
    if os.environ.get("GITHUB_EVENT_NAME") not in ("pull_request", "push"):
        return False  # what a person or the schedule asks for is done
    return git("log", "-1", "--format=%ce") == BOT[1]


def api(method: str, path: str, **content: Any) -> Any:
    """An answer of GitHub's REST API about this repository. Raises UserError with what GitHub says when it refuses."""
    missing = [name for name in ("GITHUB_TOKEN", "GITHUB_REPOSITORY") if not os.environ.get(name)]
    if missing:
        raise UserError(f"{' and '.join(missing)} not set: this runs in GitHub Actions, or with a token of yours")
    address = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    answer = requests.request(
        method,
        f"{address}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}",
        headers={
            "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        },
        json=content or None,
        timeout=60,
    )
    if not answer.ok:
        raise UserError(f"GitHub refuses {method} {path}: {answer.status_code} {answer.text[:300]}")
    return answer.json() if answer.content else None


def pages(path: str) -> list[Any]:
    """All entries of a list of GitHub's REST API."""
    entries: list[Any] = []
    while True:
        page = api("GET", f"{path}{'&' if '?' in path else '?'}per_page=100&page={len(entries) // 100 + 1}")
        entries += page
        if len(page) < 100:
            return entries


def pull_request() -> int | None:
    """The number of the pull request of this run: the event's own, or that which brought this run's commit to main."""
    number = event().get("pull_request", {}).get("number")
    if number is None and "GITHUB_SHA" in os.environ:
        found = pages(f"commits/{os.environ['GITHUB_SHA']}/pulls")
        number = found[0]["number"] if found else None
    return number


def comment(number: int, text: str) -> None:
    """Writes a comment on a pull request or an issue; one with the same first line is replaced."""
    marker, text = text.split("\n", 1)[0], _shortened(text)
    for old in pages(f"issues/{number}/comments"):
        if old["body"].split("\n", 1)[0].rstrip() == marker and old["user"]["login"] == BOT[0]:
            api("PATCH", f"issues/comments/{old['id']}", body=text)
            return
    api("POST", f"issues/{number}/comments", body=text)


def raise_issue(title: str, text: str) -> int:
    """Opens the issue of the nightly checks, or adds a comment to it while it is open; returns its number."""
    text = _shortened(f"## {title}\n\n{text}\n\n[The run]({run_url()})")
    for old in pages("issues?state=open"):
        if (old["body"] or "").startswith(ISSUE_MARKER) and "pull_request" not in old:
            api("POST", f"issues/{old['number']}/comments", body=text)
            return old["number"]
    return api("POST", "issues", title=f"Nightly: {title}", body=f"{ISSUE_MARKER}\n{text}")["number"]


def quoted_file(paths: Sequence[Path]) -> str:
    """The first of these files that is there: Markdown as it is, the last lines of another one as a code block."""
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text if path.suffix == ".md" else "````\n" + "\n".join(text.splitlines()[-LAST_LINES:]) + "\n````"


def open_pull_request(branch: str, base: str, title: str, text: str) -> int:
    """The number of the open pull request of a branch of this repository, opened when there is none."""
    owner = os.environ["GITHUB_REPOSITORY"].split("/")[0]
    found = api("GET", f"pulls?state=open&head={quote(owner)}:{quote(branch)}&base={quote(base)}")
    if found:
        return found[0]["number"]
    return api("POST", "pulls", head=branch, base=base, title=title, body=text)["number"]


def run_url() -> str:
    """The page of this run."""
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    return f"{server}/{os.environ.get('GITHUB_REPOSITORY', '')}/actions/runs/{os.environ.get('GITHUB_RUN_ID', '')}"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit("\n", 1)[0] + "\n\n(cut: the page has all of it)"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ops github", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("comment").add_argument("file", type=Path)
    issue = commands.add_parser("issue")
    issue.add_argument("title")
    issue.add_argument("files", type=Path, nargs="+", metavar="file")
    status = commands.add_parser("status")
    status.add_argument("name")
    status.add_argument("outcome", help="of a job: success, failure, cancelled or skipped")
    arguments = parser.parse_args()
    if arguments.command == "status":
        state = {"success": "success", "failure": "failure"}.get(arguments.outcome, "error")
        sha = os.environ["GITHUB_SHA"]
        api("POST", f"statuses/{sha}", state=state, context=arguments.name, target_url=run_url())
        say(f"{arguments.name} of {sha[:7]}: {state}")
    elif arguments.command == "issue":
        say(f"issue #{raise_issue(arguments.title, quoted_file(arguments.files))}")
    else:
        number = pull_request()
        if number is None:
            say("no pull request belongs to this commit: nothing to comment on")
            return
        comment(number, arguments.file.read_text(encoding="utf-8"))
        say(f"commented on pull request #{number}")


if __name__ == "__main__":
    run_stage(main)
