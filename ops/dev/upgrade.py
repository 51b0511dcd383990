"""Migrates a repository from the old version to this one: `visionloop upgrade` (docs/upgrading.md).

Reads  the user's params.yaml, dvc.lock and fingerprint.yaml, and the code of the old version from git's history
Writes params.yaml       moves params to their present sections, with their comments
       fingerprint.yaml  renames stages and metrics
       dvc.lock          gives stages that were up to date in the old version the hashes of the present code, so that
                         nothing is trained again
       data/             removes the outputs of removed stages (DVC's cache keeps them)

It leaves everything that is up to date unchanged, so it can be run again.
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
REPLACED = {"evaluate": ("evaluate_cnn", "evaluate_gan")}  # removed stages, and the stages that replace them
COMMENT_COLUMN = 30  # of params.yaml
# A section of params.yaml, and a param in it with its value, its comment and their continuation lines.
SECTION = re.compile(r"^(?P<name>[a-z_]+):.*\n(?:(?: .*)?\n)*", re.MULTILINE)
PARAM = re.compile(r"^  (?P<name>[a-z_0-9]+):(?P<rest>.*\n(?:   .*\n)*)", re.MULTILINE)


# ---------------------------------------------------------------- params.yaml


def move_params(text: str) -> str:
    """params.yaml with the params of MOVED in their new places; keeps values and comments."""
    text = f"{text.rstrip()}\n"
    sections = {match["name"]: match[0] for match in SECTION.finditer(text)}
    moved: dict[str, list[str]] = {}
    for section in sorted({old.split(".")[0] for old in MOVED} & sections.keys()):
        for match in PARAM.finditer(sections[section]):
            old = f"{section}.{match['name']}"
            if old not in MOVED:
                raise UserError(f"params.yaml: `{old}` exists in no version of this project: remove it")
            for place in MOVED[old]:
                new_section, _, name = place.partition(".")
                moved.setdefault(new_section, []).append(_line(name, match["rest"]))
        text = text.replace(sections[section], "", 1)
    if conflicts := sorted(moved.keys() & sections.keys()):
        raise UserError(
            f"params.yaml already has a section `{conflicts[0]}`, but some of its params are still in an old section: "
            "move them by hand"
        )
    for section, lines in sorted(moved.items()):
        text = f"{text.rstrip()}\n\n{section}:\n{''.join(lines)}"
    return text


def _line(name: str, rest: str) -> str:
    """A param under a new name, with its comment in the usual column."""
    value, mark, comment = rest.partition(" #")
    width = len(f"  {name}:{value}") if not mark else COMMENT_COLUMN
    return f"  {name}:{value.rstrip()}".ljust(width) + mark.strip() + comment


# ---------------------------------------------------------------- fingerprint.yaml


def rename_metrics(text: str) -> str:
    """fingerprint.yaml with each metric under its present stage: evaluate:gan.fd becomes evaluate_gan:gan.fd."""
    return re.sub(r"^(\s*)evaluate:(cnn|gan)\.", r"\1evaluate_\2:\2.", text, flags=re.MULTILINE)


# ---------------------------------------------------------------- dvc.lock


def sort_stages(
    lock: dict[str, Any], params: dict[str, Any], stages: Iterable[str]
) -> tuple[list[str], dict[str, str]]:
    """Splits the stages of dvc.lock into those whose results match the old version's code and the present params and
    data, and the others with the reason why they do not match."""
    made = {out["path"]: out.get("md5") for entry in lock["stages"].values() for out in entry.get("outs", [])}
    reasons = {name: _outdated(lock["stages"][name], params, made) for name in stages if name in lock["stages"]}
    return [name for name, reason in reasons.items() if not reason], {n: r for n, r in reasons.items() if r}


def _outdated(entry: dict[str, Any], params: dict[str, Any], made: dict[str, str]) -> str:
    for dependency in entry["deps"]:
        path, md5 = dependency["path"], dependency.get("md5")
        if path.startswith("stages/"):
            if md5 != _md5_of_old(path):
                return f"its {path} was not the one of commit {OLD}"
        elif path.startswith("data/raw/"):
            if md5 != _md5_of_source(path):
                return f"{path} has changed since"
        elif md5 != made.get(path):
            return f"{path} has changed since"
    for file, values in entry.get("params", {}).items():
        current = params if file == "params.yaml" else yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        for key, value in values.items():
            if current.get(key) != value:
                return f"{key} in {file} has changed since"
    return ""


def _md5_of_old(path: str) -> str:
    done = subprocess.run(["git", "show", f"{OLD}:./{path}"], capture_output=True, check=False)
    return hashlib.md5(done.stdout, usedforsecurity=False).hexdigest() if done.returncode == 0 else ""


def _md5_of_source(path: str) -> str:
    """The hash of an entry of data/raw: as its `.dvc` file records it, or of the card itself."""
    pointer = Path(f"{path}.dvc")
    if pointer.exists():
        return yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"]
    return hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest() if Path(path).is_file() else ""


def renew_lock() -> list[str]:
    """Updates dvc.lock for the stages whose code only moved; returns messages about every stage."""
    path = Path("dvc.lock")
    if not path.exists():
        return ["there is no dvc.lock: `dvc repro` runs everything"]
    lock = yaml.safe_load(path.read_text(encoding="utf-8"))
    dependencies = [each["path"] for entry in lock["stages"].values() for each in entry["deps"]]
    if not any(dependency.startswith("stages/lib/") for dependency in dependencies):
        return ["dvc.lock is already from this version"]
    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    kept, others = sort_stages(lock, params, stages)
    for name in REPLACED:
        lock["stages"].pop(name, None)
    path.write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")
    if kept:
        locked = [name for name in stages if name in lock["stages"]]
        try:
            dvc("checkout", *locked)
        except UserError:  # the cache lacks outputs, which the remote should have
            dvc("pull", *locked)
        dvc("commit", "--force", *kept)
    messages = [f"kept without running: {', '.join(kept) or 'no stage'}"]
    return messages + [f"`dvc repro` will run {name}: {reason}" for name, reason in others.items()]


def main() -> None:
    argparse.ArgumentParser(
        prog="visionloop upgrade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    try:
        git("cat-file", "-e", f"{OLD}^{{commit}}")
    except UserError:
        raise UserError(
            f"git's history here does not reach back to commit {OLD}: run `git fetch --unshallow`, then "
            "`uv run visionloop upgrade` again"
        ) from None
    messages = []
    for file, change in (("params.yaml", move_params), ("fingerprint.yaml", rename_metrics)):
        path = Path(file)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = change(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            messages.append(f"{file}: updated")
    messages += renew_lock()
    for stage, replacements in REPLACED.items():
        if Path("data", stage).exists():
            shutil.rmtree(Path("data", stage))
            messages.append(f"data/{stage}: removed, replaced by {' and '.join(f'data/{new}' for new in replacements)}")
    say(*messages, "check `git diff`, then run `dvc repro`")


if __name__ == "__main__":
    run_stage(main)
