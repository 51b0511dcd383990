"""Takes a repository of before over to this version: `python -m ops upgrade` (docs/upgrading.md).

Reads  params.yaml, dvc.lock, fingerprint.yaml as the user has them, and the code of the old version from git's history
Writes params.yaml       params in the sections where they are now, with their comments
       fingerprint.yaml  the names of stages and metrics as they are now
       dvc.lock          the hashes of today's code for the stages of which only the code moved, so that nothing is
                         trained again: those that were up to date with the old version's code, params and data
       data/             removes what stages that are gone wrote (DVC's cache keeps it)

It changes nothing that is up to date already, so that it can be run again.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ops.project.pipeline import dvc, git
from stages.running.moved_params import MOVED
from stages.running.terminal import UserError, run_stage, say

OLD = "7d5571f"  # the commit of the old version
GONE = {"evaluate": ("evaluate_cnn", "evaluate_gan")}  # stages, and those in their place
COMMENT_COLUMN = 30  # of params.yaml
# A section of params.yaml, and a param in it with its value, its comment and the lines that continue these.
SECTION = re.compile(r"^(?P<name>[a-z_]+):.*\n(?:(?: .*)?\n)*", re.MULTILINE)
PARAM = re.compile(r"^  (?P<name>[a-z_0-9]+):(?P<rest>.*\n(?:   .*\n)*)", re.MULTILINE)


# ---------------------------------------------------------------- params.yaml


def move_params(text: str) -> str:
    """params.yaml with the params of MOVED in their new places, values and comments kept."""
    text = f"{text.rstrip()}\n"
    sections = {match["name"]: match[0] for match in SECTION.finditer(text)}
    moved: dict[str, list[str]] = {}
    for section in sorted({old.split(".")[0] for old in MOVED} & sections.keys()):
        for match in PARAM.finditer(sections[section]):
            old = f"{section}.{match['name']}"
            if old not in MOVED:
                raise UserError(f"params.yaml: `{old}` is a param of no version of this project: remove it")
            for place in MOVED[old]:
                there, _, name = place.partition(".")
                moved.setdefault(there, []).append(_line(name, match["rest"]))
        text = text.replace(sections[section], "", 1)
    if both := sorted(moved.keys() & sections.keys()):
        raise UserError(
            f"params.yaml has a section `{both[0]}`, and params that belong there in an old one: move them by hand"
        )
    for section, lines in sorted(moved.items()):
        text = f"{text.rstrip()}\n\n{section}:\n{''.join(lines)}"
    return text


def _line(name: str, rest: str) -> str:
    """A param under another name, its comment in the column where it was."""
    value, mark, comment = rest.partition(" #")
    width = len(f"  {name}:{value}") if not mark else COMMENT_COLUMN
    return f"  {name}:{value.rstrip()}".ljust(width) + mark.strip() + comment


# ---------------------------------------------------------------- fingerprint.yaml


def rename_figures(text: str) -> str:
    """fingerprint.yaml with the stages that measure each figure today: evaluate:gan.fd is evaluate_gan:gan.fd."""
    return re.sub(r"^(\s*)evaluate:(cnn|gan)\.", r"\1evaluate_\2:\2.", text, flags=re.MULTILINE)


# ---------------------------------------------------------------- dvc.lock


def sort_stages(
    lock: dict[str, Any], params: dict[str, Any], stages: Iterable[str]
) -> tuple[list[str], dict[str, str]]:
    """Of the stages that dvc.lock names those whose results belong to the old version's code and to the params and data
    that are here; and of the others why not."""
    made = {out["path"]: out.get("md5") for entry in lock["stages"].values() for out in entry.get("outs", [])}
    reasons = {name: _outdated(lock["stages"][name], params, made) for name in stages if name in lock["stages"]}
    return [name for name, reason in reasons.items() if not reason], {n: r for n, r in reasons.items() if r}


def _outdated(entry: dict[str, Any], params: dict[str, Any], made: dict[str, str]) -> str:
    for dependency in entry["deps"]:
        path, md5 = dependency["path"], dependency.get("md5")
        if path.startswith("stages/"):
            if md5 != _md5_of_old(path):
                return f"it was made by another {path} than that of {OLD}"
        elif path.startswith("data/raw/"):
            if md5 != _md5_of_source(path):
                return f"{path} has changed since"
        elif md5 != made.get(path):
            return f"{path} has changed since"
    for file, values in entry.get("params", {}).items():
        there = params if file == "params.yaml" else yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        for key, value in values.items():
            if there.get(key) != value:
                return f"{key} in {file} has changed since"
    return ""


def _md5_of_old(path: str) -> str:
    done = subprocess.run(["git", "show", f"{OLD}:./{path}"], capture_output=True, check=False)
    return hashlib.md5(done.stdout, usedforsecurity=False).hexdigest() if done.returncode == 0 else ""


def _md5_of_source(path: str) -> str:
    """That of an entry of data/raw: of its `.dvc` file, or of the card itself."""
    pointer = Path(f"{path}.dvc")
    if pointer.exists():
        return yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"]
    return hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest() if Path(path).is_file() else ""


def renew_lock() -> list[str]:
    """Gives the stages of which only the code moved today's hashes in dvc.lock; returns what became of them."""
    path = Path("dvc.lock")
    if not path.exists():
        return ["there is no dvc.lock: `dvc repro` runs everything"]
    lock = yaml.safe_load(path.read_text(encoding="utf-8"))
    dependencies = [each["path"] for entry in lock["stages"].values() for each in entry["deps"]]
    if not any(dependency.startswith("stages/lib/") for dependency in dependencies):
        return ["dvc.lock is one of this version already"]
    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    kept, others = sort_stages(lock, params, stages)
    for name in GONE:
        lock["stages"].pop(name, None)
    path.write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")
    if kept:
        locked = [name for name in stages if name in lock["stages"]]
        try:
            dvc("checkout", *locked)
        except UserError:  # the remote has what the cache has not
            dvc("pull", *locked)
        dvc("commit", "--force", *kept)
    said = [f"kept as they are, without running: {', '.join(kept) or 'no stage'}"]
    return said + [f"`dvc repro` runs {name}: {reason}" for name, reason in others.items()]


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m ops upgrade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    try:
        git("cat-file", "-e", f"{OLD}^{{commit}}")
    except UserError:
        raise UserError(
            f"git's history here does not reach back to commit {OLD}: run `git fetch --unshallow`, then this again"
        ) from None
    said = []
    for file, change in (("params.yaml", move_params), ("fingerprint.yaml", rename_figures)):
        path = Path(file)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = change(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            said.append(f"{file}: rewritten")
    said += renew_lock()
    for stage in GONE:
        if Path("data", stage).exists():
            shutil.rmtree(Path("data", stage))
            said.append(f"data/{stage}: removed, {' and '.join(f'data/{new}' for new in GONE[stage])} take its place")
    say(*said, "look at `git diff`, then run `dvc repro`")


if __name__ == "__main__":
    run_stage(main)
