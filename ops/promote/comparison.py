"""Compares the networks of this commit with the champions on the present test images. Changes nothing.

Reads  the files that ops/promote/contenders.py reads, dvc.lock, promotion.yaml, the champions in MLflow's registry
"""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ops.project import registry
from ops.project.pipeline import check_shared_store, git, locked_md5, stale_stages
from ops.project.registry import Version
from ops.promote.contenders import CONTENDERS, Contender
from ops.promote.gate.decision import Decision
from stages.evaluate_gan import DATA, REFERENCE
from stages.running.terminal import UserError
from stages.running.tracking.identity import sha256_of

PASSED = Path("data/validate/passed")
ROLLED_BACK = "champion.rolled_back"  # a version's tag


class Previous(NamedTuple):
    """The comparison with the newest other version that is not the champion: for information only."""

    version: int
    decision: Decision  # without rules


class Comparison(NamedTuple):
    """A contender, and the outcome of its comparison with the champion."""

    contender: Contender
    candidate: Version | None  # None when these files are not registered
    champion: Version | None
    decision: Decision
    measured: bool  # False when there was nothing to compare
    previous: Previous | str  # or the reason why there is no such comparison

    @property
    def is_champion(self) -> bool:
        return (
            self.candidate is not None and self.champion is not None and self.candidate.number == self.champion.number
        )

    @property
    def title(self) -> str:
        model = self.contender.network.model
        candidate = f"version {self.candidate.number}" if self.candidate else "not registered yet"
        if not self.measured:
            return f"{model}: {candidate}"
        champion = f"against the champion, version {self.champion.number}" if self.champion else "no champion yet"
        return f"{model}: {candidate}, {champion}"


def compare(contender: Contender, again: bool = False, with_previous: bool = True) -> Comparison:
    """Compares this commit's network with the champion, both on the present test images.

    again: whether to compare a version that was rolled back. with_previous: whether to compare with the previous
    candidate as well, for information.
    """
    model = contender.network.model
    candidate, champion = contender.registered(), registry.champion(model)

    def settled(reason: str) -> Comparison:
        return Comparison(contender, candidate, champion, Decision(model, False, reason, []), False, "")

    if candidate and champion and candidate.number == champion.number:
        return settled(f"version {candidate.number} is already the champion")
    if candidate and ROLLED_BACK in candidate.tags and not again:
        return settled(
            f"version {candidate.number} was rolled back at {candidate.tags[ROLLED_BACK]}; "
            "`uv run visionloop promote --again` compares it nevertheless"
        )
    with tempfile.TemporaryDirectory(prefix="promote-") as folder:
        files = registry.download_version(champion, Path(folder) / "champion") if champion else None
        decision = contender.compare_with(files)
        previous = _against_previous(contender, champion, Path(folder)) if with_previous else ""
    return Comparison(contender, candidate, champion, decision, True, previous)


def _against_previous(contender: Contender, champion: Version | None, folder: Path) -> Previous | str:
    network = contender.network
    known = {sha256_of(network.file), champion.tags.get("sha256") if champion else None}
    others = (version for version in registry.versions(network.model) if version.tags.get("sha256") not in known)
    newest = next(others, None)
    if newest is None:
        return "There is no previous candidate to compare with."
    try:
        decision = contender.compare_with(registry.download_version(newest, folder / "previous"))
    except UserError as error:  # a damaged old version does not stop a promotion
        return f"A comparison with the previous candidate is impossible: {error}."
    lines = [line._replace(rule="") for line in decision.lines]
    return Previous(newest.number, Decision(network.model, False, "", lines))


def forecast() -> list[Decision]:
    """The gate's decisions on the present networks; changes nothing.

    Raises UserError when there is no registry, or files are missing.
    """
    check_shared_store()
    contenders = [contender() for contender in CONTENDERS.values()]
    check_files(contenders)
    with registry.mlflow_errors_as_user_errors():
        return [compare(contender, with_previous=False).decision for contender in contenders]


# ---------------------------------------------------------------- preconditions


def check_files(contenders: Sequence[Contender]) -> None:
    """Raises UserError unless the files are those of dvc.lock, and belong to the present code, params and data."""
    networks = [contender.network for contender in contenders]
    paths = [network.file for network in networks] + [REFERENCE] + [network.metrics for network in networks] + [PASSED]
    missing = [str(path) for path in (*paths, DATA, DATA / "classes.json") if not path.exists()]
    if missing:
        raise UserError(f"{', '.join(missing)} not found: run `dvc pull`")
    for path in paths:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != locked_md5(path):
            raise UserError(f"{path} differs from the file in dvc.lock: run `dvc checkout`, or `dvc repro` and commit")
    if stale := stale_stages():
        raise UserError(
            f"dvc.lock does not belong to the present code, params and data ({', '.join(stale)} would run): "
            "run `dvc repro` and commit dvc.lock, so that this commit reproduces the promoted networks"
        )


def check_committed() -> None:
    """Raises UserError unless dvc.lock is the one of the commit."""
    if git("show", "HEAD:dvc.lock") != Path("dvc.lock").read_text(encoding="utf-8").rstrip("\n"):
        raise UserError("dvc.lock has uncommitted changes: commit it, so that the champion can be traced to a commit")
