"""Reports from CI to GitHub: outputs, comments, issues, pull requests and statuses, through its REST API.

  visionloop github comment FILE          comments on the pull request of this run, or of this run's commit; replaces
                                          a comment that has the same first line
  visionloop github issue TITLE FILE...   opens the issue of the nightly checks, or comments on it while it is open,
                                          with the title, the first FILE that exists (Markdown, or the end of a log)
                                          and a link to the run
  visionloop github status NAME OUTCOME   sets the outcome of a job as a commit status named NAME

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

from ops.project.pipeline import git
from stages.running.terminal import UserError, run_stage, say

# The account that GitHub's default token acts for.
BOT = ("github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com")
MAX_CHARACTERS = 65_000  # GitHub refuses more than 65,536
LAST_LINES = 60
ISSUE_MARKER = "<!-- visionloop-nightly -->"


def set_output(name: str, value: str) -> None:
    """Sets an output of the step; does nothing outside of GitHub Actions."""
    if path := os.environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{name}={value}\n")


def event() -> dict[str, Any]:
    """The payload of the event that started this run; empty outside of GitHub Actions."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def is_bot_commit() -> bool:
    """Whether this run is for a commit of retraining results that CI itself made.

    The committer decides, not the author, because merging, squashing or rebasing such a commit changes its committer.
    """
    if os.environ.get("GITHUB_EVENT_NAME") not in ("pull_request", "push"):
        return False  # a manual or scheduled run always trains
    return git("log", "-1", "--format=%ce") == BOT[1]


def api(method: str, path: str, **content: Any) -> Any:
    """Sends a request about this repository to GitHub's REST API; returns the answer. Raises UserError with GitHub's
    message when it refuses."""
    import requests

    missing = [name for name in ("GITHUB_TOKEN", "GITHUB_REPOSITORY") if not os.environ.get(name)]
    if missing:
        raise UserError(f"{' and '.join(missing)} not set: run this in GitHub Actions, or set them yourself")
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
        raise UserError(f"GitHub refused {method} {path}: {answer.status_code} {answer.text[:300]}")
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
    """The number of this run's pull request: the event's own, or the one that brought this run's commit to main."""
    number = event().get("pull_request", {}).get("number")
    if number is None and "GITHUB_SHA" in os.environ:
        found = pages(f"commits/{os.environ['GITHUB_SHA']}/pulls")
        number = found[0]["number"] if found else None
    return number


def comment(number: int, text: str) -> None:
    """Comments on a pull request or an issue; replaces a comment of the bot that has the same first line."""
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
    """The text of the first file that exists: Markdown as it is, otherwise its last lines as a code block."""
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text if path.suffix == ".md" else "````\n" + "\n".join(text.splitlines()[-LAST_LINES:]) + "\n````"


def open_pull_request(branch: str, base: str, title: str, text: str) -> int:
    """The number of a branch's open pull request; opens one when there is none."""
    owner = os.environ["GITHUB_REPOSITORY"].split("/")[0]
    found = api("GET", f"pulls?state=open&head={quote(owner)}:{quote(branch)}&base={quote(base)}")
    if found:
        return found[0]["number"]
    return api("POST", "pulls", head=branch, base=base, title=title, body=text)["number"]


def run_url() -> str:
    """The address of this run's page."""
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")
    return f"{server}/{os.environ.get('GITHUB_REPOSITORY', '')}/actions/runs/{os.environ.get('GITHUB_RUN_ID', '')}"


def _shortened(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    return text[:MAX_CHARACTERS].rsplit("\n", 1)[0] + "\n\n(shortened: the page has the whole text)"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="visionloop github", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("comment").add_argument("file", type=Path)
    issue = commands.add_parser("issue")
    issue.add_argument("title")
    issue.add_argument("files", type=Path, nargs="+", metavar="file")
    status = commands.add_parser("status")
    status.add_argument("name")
    status.add_argument("outcome", help="the job's outcome: success, failure, cancelled or skipped")
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
