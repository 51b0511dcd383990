"""Hands in what a retraining in CI made: `python -m ops deliver`, after ops.ci.retrain and ops.report.

For a pull request, the new dvc.lock, metrics and params are committed to its branch, and the report becomes its
comment. For a push, the schedule and by hand they get a branch and a pull request of their own: `retrain/main`,
`retrain/weekly`, `retrain/RUN`. When the retraining failed there is nothing to commit, and the report says why. The
report's pictures go to the branch `reports`, as a comment can only show what has an address.

A push with GitHub's default token starts no workflow, so ci.yml is started for the bot's commit by name; it reports its
outcome as a commit status.

Environment: GitHub's own variables (see ops.ci.github) and GITHUB_TOKEN.
"""

import argparse
import base64
import os
import re
import subprocess
import tempfile
from pathlib import Path

from ops.ci import github
from ops.project.pipeline import git
from stages.running.terminal import UserError, run_stage, say

REPORT = Path(".visionloop/report")
RESULTS = ("dvc.lock", "params.yaml", "data")  # .gitignore keeps out of data/ what DVC keeps
PICTURES_BRANCH = "reports"
TRIES = 3  # to push pictures while others push theirs


def with_origin(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A git command that talks to origin, with GITHUB_TOKEN, which git gets by its environment."""
    environment = dict(os.environ)
    if token := os.environ.get("GITHUB_TOKEN"):
        basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        environment |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/.extraheader",
            "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {basic}",
        }
    return subprocess.run(["git", *arguments], env=environment, capture_output=True, text=True, check=False)


def push(refspec: str, *, force: bool = False) -> bool:
    """Pushes to origin; False when the branch has moved on."""
    done = with_origin("push", *(["--force"] if force else []), "origin", refspec)
    if done.returncode and "rejected" not in done.stderr:
        raise UserError(f"`git push origin {refspec}` failed: {done.stderr.strip()}")
    return done.returncode == 0


def commit_results(message: str) -> bool:
    """Commits the results as the bot; False when nothing changed."""
    git("add", "--all", "--", *(path for path in RESULTS if Path(path).exists()))
    if not git("diff", "--cached", "--name-only"):
        return False
    name, address = github.BOT
    git("-c", f"user.name={name}", "-c", f"user.email={address}", "commit", "--quiet", "--message", message)
    return True


def publish_pictures(folder: str) -> str:
    """Puts the report's pictures into `folder` of the branch `reports`; returns the address they are under."""
    server, repository = os.environ.get("GITHUB_SERVER_URL", "https://github.com"), os.environ["GITHUB_REPOSITORY"]
    name, address = github.BOT
    for _ in range(TRIES):
        with_origin("fetch", "origin", f"+refs/heads/{PICTURES_BRANCH}:refs/remotes/origin/{PICTURES_BRANCH}")
        known = git("for-each-ref", "--format=%(objectname)", f"refs/remotes/origin/{PICTURES_BRANCH}")
        with tempfile.TemporaryDirectory() as temporary:  # an index of its own: the work tree has nothing to do with it
            os.environ["GIT_INDEX_FILE"] = f"{temporary}/index"
            try:
                if known:
                    git("read-tree", known)
                for picture in sorted(REPORT.glob("*.png")):
                    content = git("hash-object", "-w", str(picture))
                    git("update-index", "--add", "--cacheinfo", f"100644,{content},{folder}/{picture.name}")
                tree = git("write-tree")
            finally:
                del os.environ["GIT_INDEX_FILE"]
        who = ("-c", f"user.name={name}", "-c", f"user.email={address}")
        parent = ("-p", known) if known else ()
        commit = git(*who, "commit-tree", tree, *parent, "-m", f"Pictures of {folder}")
        if push(f"{commit}:refs/heads/{PICTURES_BRANCH}"):
            return f"{server}/{repository}/blob/{PICTURES_BRANCH}/{folder}"
    raise UserError(f"the branch {PICTURES_BRANCH} moved on {TRIES} times while pictures were pushed to it")


def with_addresses(markdown: str, address: str) -> str:
    """The report with its pictures at `address` instead of beside it."""
    return re.sub(r"(!\[[^\]]*\])\((?!https?:)([^)/]+\.png)\)", rf"\1({address}/\2?raw=true)", markdown)


def target() -> tuple[str, bool]:
    """The branch that takes the results, and whether it is one of their own."""
    kind = os.environ.get("GITHUB_EVENT_NAME", "")
    if kind == "pull_request":
        return github.event()["pull_request"]["head"]["ref"], False
    own = {"schedule": "weekly", "push": os.environ.get("GITHUB_REF_NAME", "")}
    return f"retrain/{own.get(kind, os.environ.get('GITHUB_RUN_ID', ''))}", True


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ops deliver", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--failed", default="", metavar="STAGE", help="the stage that failed: nothing to commit then")
    arguments = parser.parse_args()
    report = (REPORT / "report.md").read_text(encoding="utf-8")
    branch, own = target()
    number = None if own else github.event()["pull_request"]["number"]
    if not arguments.failed and commit_results(f"Retrain\n\n{github.run_url()}"):
        if not push(f"HEAD:refs/heads/{branch}", force=own):
            raise UserError(f"{branch} moved on during the training: the run for its new commit takes the results over")
        say(f"pushed {git('rev-parse', '--short', 'HEAD')} to {branch}")
        if own:
            title = f"Retrain: {branch.removeprefix('retrain/')}"
            number = github.open_pull_request(branch, os.environ["GITHUB_REF_NAME"], title, github.run_url())
        github.api("POST", "actions/workflows/ci.yml/dispatches", ref=branch)
    folder = f"{f'pull-{number}' if number else branch}/{os.environ.get('GITHUB_RUN_ID', 'by-hand')}"
    report = with_addresses(report, publish_pictures(folder))
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as summary:
            summary.write(report)
    if number:
        github.comment(number, report)
        say(f"the report is on pull request #{number}")


if __name__ == "__main__":
    run_stage(main)
