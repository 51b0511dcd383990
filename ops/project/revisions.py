"""Two states of the project behind one interface: a commit, read from git and DVC, and the files of the work tree."""

import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import yaml

from ops.project.pipeline import git
from stages.running.terminal import UserError


class State(Protocol):
    """A state of the project: its texts (in git) and its data (in DVC)."""

    name: str  # as reports show it: "base 1a2b3c4", "this"

    def text(self, path: str) -> str | None:
        """The text of a file that git tracks; None when there is none."""

    def file(self, path: str) -> Path | None:
        """A readable path of a file below data/; None when neither this machine nor the remote has it."""


class Commit:
    """The project at a commit: texts from git, data from DVC's cache or remote, copied into `folder`."""

    def __init__(self, commit: str, folder: Path):
        self.commit, self.folder = commit, folder
        self.name = f"base {commit[:7]}"

    def text(self, path: str) -> str | None:
        tracked = git("ls-tree", "--name-only", self.commit, "--", path)
        return git("show", f"{self.commit}:./{path}") if tracked else None

    def file(self, path: str) -> Path | None:
        from dvc.exceptions import DvcException
        from dvc_data.index import DataIndexDirError

        copy = self.folder / path
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            partial = copy.with_name(f"{copy.name}.partial")
            try:
                with self._files.open(path, "rb") as source, partial.open("wb") as target:
                    shutil.copyfileobj(source, target)
            except (DvcException, DataIndexDirError, OSError):
                return None  # neither the cache nor the remote has it, or the remote does not answer
            partial.rename(copy)
        return copy

    @cached_property
    def _files(self) -> Any:
        from dvc.api import DVCFileSystem

        return DVCFileSystem(".", rev=self.commit)


class WorkTree:
    """The files of the working directory."""

    name = "this"

    def text(self, path: str) -> str | None:
        return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None

    def file(self, path: str) -> Path | None:
        return Path(path) if Path(path).is_file() else None


def changed_files(base: Commit, *paths: str) -> list[str]:
    """The files below these paths that differ between a commit and the work tree, including new and removed ones."""
    changed = git("diff", "--name-only", "--no-renames", "--relative", "-z", base.commit, "--", *paths)
    added = git("ls-files", "--others", "--exclude-standard", "-z", "--", *paths)
    return sorted({path for path in f"{changed}\0{added}".split("\0") if path})


def locked(state: State) -> dict[str, str]:
    """The md5 of every output in dvc.lock, by path; empty without a dvc.lock."""
    lock = yaml.safe_load(state.text("dvc.lock") or "") or {}
    outputs = (output for stage in lock.get("stages", {}).values() for output in stage.get("outs", []))
    return {output["path"]: output["md5"] for output in outputs}


def resolve_base(name: str | None) -> str:
    """The commit to compare with: the named one; else, in a pull request's workflow, the merge base with its target;
    else HEAD when the work tree differs from it, and the commit before HEAD when it does not.

    Raises UserError when there is no such commit, or no repository.
    """
    head = _commit("HEAD")
    if head is None:
        raise UserError(f"{Path.cwd()} is not in a git repository with a commit: run from the root of the project")
    if name:
        found = _commit(name)
        if found is None:
            raise UserError(f"`{name}` is not a commit here: name a branch, a tag or a hash that `git log` shows")
        return found
    if target := os.environ.get("GITHUB_BASE_REF"):
        try:
            return git("merge-base", "HEAD", f"origin/{target}")
        except UserError:
            raise UserError(
                f"HEAD and origin/{target} (from GITHUB_BASE_REF) have no common commit here: fetch the whole history "
                "(`fetch-depth: 0` of actions/checkout), or name a commit with --base"
            ) from None
    return head if git("status", "--porcelain") else _commit("HEAD~1") or head


def this_commit() -> str:
    """A description of the work tree: a commit, or a commit with uncommitted changes."""
    commit = git("rev-parse", "--short=7", "HEAD")
    return f"{commit} with uncommitted changes" if git("status", "--porcelain") else commit


def _commit(name: str) -> str | None:
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except UserError:
        return None
