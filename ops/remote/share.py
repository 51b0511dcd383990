"""Pushes what the stages made here to the DVC remote, so that nobody runs them again: `python -m ops share`.

Elsewhere, whoever comes to the same code, params and data gets the results from there, whatever is in their dvc.lock:
`dvc repro --pull`, or `dvc exp run --pull -S KEY=VALUE`.

`dvc push --run-cache` pushes the records of the run-cache and what dvc.lock names. That is not enough: a stage comes
back as a whole or not at all, and the metrics files are missing, which git keeps; so is everything that experiments
made and dvc.lock does not name. This pushes the outputs of every record that is whole here, and then the records.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo

from ops.project.pipeline import check_remote, dvc
from stages.running.terminal import UserError, run_stage, say


def whole_records(repo: Repo) -> Iterator[tuple[str, set[Any]]]:
    """The command of each execution in the run-cache whose outputs are all here, and the hashes of their files."""
    for path in sorted(Path(repo.stage_cache.cache_dir).glob("*/*/*")):
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
        # Asked before DVC is, which would fetch the lists of folders that are not here.
        if all(repo.cache.local.exists(output["md5"]) for output in record["outs"]):
            used = repo.stage_cache.get_used_objs([(path.parent.name, path.name)])
            hashes = set().union(*used.values())
            if all(repo.cache.local.exists(one.value) for one in hashes):
                yield record["cmd"], hashes


def share() -> dict[str, int]:
    """Pushes all of it; returns how many executions of each command others need not run. Raises UserError when
    something did not arrive."""
    dvc("push")
    executions, hashes = dict[str, int](), set[Any]()
    with Repo() as repo:
        for command, used in whole_records(repo):
            executions[command] = executions.get(command, 0) + 1
            hashes |= used
        if failed := repo.cloud.push(hashes).failed:
            raise UserError(f"{len(failed)} of {len(hashes)} files did not get to the DVC remote: run this again")
        repo.stage_cache.push(None)  # last, so that a record never promises what is not there
    return executions


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m ops share", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    check_remote()
    executions = share()
    for command, count in executions.items():
        say(f"{count:4d} x {command}")
    say(f"shared: {sum(executions.values())} stage executions; `dvc repro --pull` elsewhere takes what it would run")


if __name__ == "__main__":
    run_stage(main)
