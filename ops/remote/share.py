"""Pushes the results of stages that ran here to the DVC remote, so that no one runs them again: `visionloop share`.

Another machine with the same code, params and data gets the results from there, whatever is in its dvc.lock, with
`dvc repro --pull`, or `dvc exp run --pull -S KEY=VALUE`.

`dvc push --run-cache` pushes the records of the run-cache and the outputs in dvc.lock. That is not enough: DVC restores
a stage only with all its outputs, but the metrics files, which git keeps, would be missing; so would the outputs of
experiments that are not in dvc.lock. This pushes the outputs of every record that is complete here, then the records.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ops.project.pipeline import check_remote, dvc
from stages.running.terminal import UserError, run_stage, say


def complete_records(repo: Any) -> Iterator[tuple[str, set[Any]]]:
    """The command of each execution in the run-cache of a `dvc.repo.Repo` whose outputs are all here, and the hashes of
    their files."""
    for path in sorted(Path(repo.stage_cache.cache_dir).glob("*/*/*")):
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
        # Checked first, because get_used_objs would fetch the file lists of folders that are missing here.
        if all(repo.cache.local.exists(output["md5"]) for output in record["outs"]):
            used = repo.stage_cache.get_used_objs([(path.parent.name, path.name)])
            hashes = set().union(*used.values())
            if all(repo.cache.local.exists(hash_info.value) for hash_info in hashes):
                yield record["cmd"], hashes


def share() -> dict[str, int]:
    """Pushes all complete records and their outputs; returns the number of executions of each command. Raises UserError
    when a file did not arrive."""
    from dvc.repo import Repo

    dvc("push")
    executions, hashes = dict[str, int](), set[Any]()
    with Repo() as repo:
        for command, used in complete_records(repo):
            executions[command] = executions.get(command, 0) + 1
            hashes |= used
        if failed := repo.cloud.push(hashes).failed:
            raise UserError(
                f"{len(failed)} of {len(hashes)} files did not reach the DVC remote: run this command again"
            )
        repo.stage_cache.push(None)  # last, so that no record refers to a missing file
    return executions


def main() -> None:
    argparse.ArgumentParser(
        prog="visionloop share", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    check_remote()
    executions = share()
    for command, count in executions.items():
        say(f"{count:4d} x {command}")
    say(f"shared {sum(executions.values())} stage executions: on other machines `dvc repro --pull` fetches them")


if __name__ == "__main__":
    run_stage(main)
