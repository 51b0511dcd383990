"""Delivers the results of a retraining in CI: `visionloop deliver`, after `visionloop retrain` and `visionloop report`.

For a pull request, it commits the new dvc.lock, metrics and params to the branch and comments with the report. A push,
a scheduled run and a manual run get a branch and a pull request of their own: `retrain/main`, `retrain/weekly`,
`retrain/RUN`. When the retraining failed there is nothing to commit, and the report shows why. The report's pictures go
to the branch `reports`, because a comment can only show a picture that has an address.

A push with GitHub's default token starts no workflow, so ci.yml is dispatched for the bot's commit; it reports its
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
RESULTS = ("dvc.lock", "params.yaml", "data")  # .gitignore excludes the files of data/ that DVC keeps
PICTURES_BRANCH = "reports"
PUSH_ATTEMPTS = 3  # for pictures, while other runs push theirs


def with_origin(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a git command that talks to origin, with GITHUB_TOKEN passed through the environment."""
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
    """Pushes to origin; False when the branch has newer commits. Raises UserError when the push fails otherwise."""
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
    """Puts the report's pictures into `folder` of the branch `reports`; returns the address of that folder."""
    server, repository = os.environ.get("GITHUB_SERVER_URL", "https://github.com"), os.environ["GITHUB_REPOSITORY"]
    name, address = github.BOT
    for _ in range(PUSH_ATTEMPTS):
        with_origin("fetch", "origin", f"+refs/heads/{PICTURES_BRANCH}:refs/remotes/origin/{PICTURES_BRANCH}")
        tip = git("for-each-ref", "--format=%(objectname)", f"refs/remotes/origin/{PICTURES_BRANCH}")
        with tempfile.TemporaryDirectory() as temporary:  # a separate index, so that the work tree stays as it is
            os.environ["GIT_INDEX_FILE"] = f"{temporary}/index"
            try:
                if tip:
                    git("read-tree", tip)
                for picture in sorted(REPORT.glob("*.png")):
                    content = git("hash-object", "-w", str(picture))
                    git("update-index", "--add", "--cacheinfo", f"100644,{content},{folder}/{picture.name}")
                tree = git("write-tree")
            finally:
                del os.environ["GIT_INDEX_FILE"]
        identity = ("-c", f"user.name={name}", "-c", f"user.email={address}")
        parent = ("-p", tip) if tip else ()
        commit = git(*identity, "commit-tree", tree, *parent, "-m", f"Pictures of {folder}")
        if push(f"{commit}:refs/heads/{PICTURES_BRANCH}"):
            return f"{server}/{repository}/blob/{PICTURES_BRANCH}/{folder}"
    raise UserError(
        f"pushing pictures to the branch {PICTURES_BRANCH} failed {PUSH_ATTEMPTS} times, as other runs pushed to it: "
        "run this job again"
    )


def with_addresses(markdown: str, address: str) -> str:
    """The report with its pictures at `address` instead of in its own folder."""
    return re.sub(r"(!\[[^\]]*\])\((?!https?:)([^)/]+\.png)\)", rf"\1({address}/\2?raw=true)", markdown)


def target() -> tuple[str, bool]:
    """The branch that receives the results, and whether it exists only for them."""
    kind = os.environ.get("GITHUB_EVENT_NAME", "")
    if kind == "pull_request":
        return github.event()["pull_request"]["head"]["ref"], False
    names = {"schedule": "weekly", "push": os.environ.get("GITHUB_REF_NAME", "")}
    return f"retrain/{names.get(kind, os.environ.get('GITHUB_RUN_ID', ''))}", True


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="visionloop deliver", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--failed", default="", metavar="STAGE", help="the failed stage; nothing is committed then")
    arguments = parser.parse_args()
    report = (REPORT / "report.md").read_text(encoding="utf-8")
    branch, own_branch = target()
    number = None if own_branch else github.event()["pull_request"]["number"]
    if not arguments.failed and commit_results(f"Retrain\n\n{github.run_url()}"):
        if not push(f"HEAD:refs/heads/{branch}", force=own_branch):
            raise UserError(
                f"{branch} received new commits during the training: the run for the newest one reuses these results"
            )
        say(f"pushed {git('rev-parse', '--short', 'HEAD')} to {branch}")
        if own_branch:
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
