"""Weighs the models of this commit against the champions, and promotes those that win: `python -m ops promote`.

Reads  data/ingest, data/reference, the networks of ops/project/networks.py and their metrics as dvc.lock names them,
       promotion.yaml, the champions in MLflow's registry (MLFLOW_TRACKING_URI, or mlflow.db)
Writes the registry: the alias `champion`, tags that say why, a run with the table (see ops/project/registry.py)

Exit code: 0 when every model of this commit is the champion now, or was already; 3 when one was weighed and not
promoted; 1 when something is in the way.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ops.project import registry
from ops.project.networks import NETWORKS
from ops.project.pipeline import check_shared_store, git
from ops.project.registry import Version
from ops.project.registry_lock import promotion_lock
from ops.promote.contenders import CONTENDERS, register_missing
from ops.promote.history import complete_history, record, settle
from ops.promote.text import markdown, terminal_text
from ops.promote.weighing import ROLLED_BACK, Weighed, check_committed, check_files, weigh
from stages.running import terminal
from stages.running.terminal import UserError

NOT_PROMOTED = 3  # exit code


def promote(sections: Sequence[str], again: bool, target: Path | None) -> int:
    """Weighs and promotes; returns the exit code. target: a file for the tables in Markdown."""
    check_shared_store()
    contenders = [CONTENDERS[section]() for section in sections]
    check_files(contenders)
    check_committed()
    commit = git("rev-parse", "HEAD")
    if not registry.exists():
        register_missing(contenders)  # which makes the store that the lock is in
    with promotion_lock():
        register_missing(contenders)
        for contender in contenders:
            complete_history(contender.network.model)
        all_weighed = [weigh(contender, again) for contender in contenders]
        for weighed in all_weighed:
            assert weighed.candidate is not None
            registry.set_alias(weighed.candidate, "candidate")
        if any(weighed.measured for weighed in all_weighed):
            with registry.new_run("promote", commit, {}) as run:
                record(run, all_weighed)
                for weighed in all_weighed:
                    if weighed.measured:
                        settle(run, weighed, commit)
    return _report(all_weighed, target, done=True)


def dry_run(sections: Sequence[str], again: bool, target: Path | None) -> int:
    """Weighs and changes nothing; returns the exit code."""
    check_shared_store()
    contenders = [CONTENDERS[section]() for section in sections]
    check_files(contenders)
    return _report([weigh(contender, again) for contender in contenders], target, done=False)


def _report(all_weighed: Sequence[Weighed], target: Path | None, done: bool) -> int:
    """Prints the tables, writes them to `target` too, and returns the exit code."""
    for weighed in all_weighed:
        print(f"\n{terminal_text(weighed, done)}")
    if target:
        target.write_text(markdown(all_weighed, done), encoding="utf-8")
    return 0 if all(weighed.is_champion or weighed.decision.promote for weighed in all_weighed) else NOT_PROMOTED


def roll_back(sections: Sequence[str]) -> None:
    """Gives the alias back to the champion before this one. Raises UserError when no model has one."""
    check_shared_store()
    outcomes = []
    with promotion_lock():
        for model in (NETWORKS[section].model for section in sections):
            complete_history(model)
            outcomes.append(_roll_back(model))
    moved = [sentence for sentence, was_moved in outcomes if was_moved]
    if not moved:
        raise UserError("nothing to roll back: " + "; ".join(sentence for sentence, _ in outcomes))
    terminal.say(*(sentence for sentence, _ in outcomes))


def _roll_back(model: str) -> tuple[str, bool]:
    """What was done with a model in a sentence, and whether that was anything."""
    champion, now = registry.champion(model), registry.now()
    if champion is None:
        return f"{model} has no champion", False
    restored = _one_before(champion)
    if restored is None:
        return f"version {champion.number} of {model} has no champion before it that was not rolled back itself", False
    registry.tag(champion, {ROLLED_BACK: now, "champion.until": now, "promotion.decision": "rolled back"})
    registry.untag(restored, "champion.until")
    registry.tag(restored, {"champion.since": now})
    registry.set_alias(restored, "champion")
    by = f"by rollback of version {champion.number}"
    registry.add_to_history(model, f"version {restored.number} restored {now}, {by}")
    return f"{model}: version {restored.number} is the champion again, instead of version {champion.number}", True


def _one_before(champion: Version) -> Version | None:
    """The newest champion before this one that was not rolled back."""
    versions = {str(version.number): version for version in registry.versions(champion.model)}
    seen, number = {str(champion.number)}, champion.tags.get("champion.previous", "")
    while number in versions and number not in seen:
        if ROLLED_BACK not in versions[number].tags:
            return versions[number]
        seen.add(number)
        number = versions[number].tags.get("champion.previous", "")
    return None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ops promote",
        description="Weighs this commit's models against the champions on today's test images, by promotion.yaml, and "
        "promotes those that win.",
        epilog="Exit code: 0 when every model of this commit is the champion now or was already, 3 when one was "
        "weighed and not promoted, 1 when something is in the way.",
    )
    parser.add_argument("--model", choices=list(CONTENDERS), help="only this one; both by default")
    parser.add_argument("--dry-run", action="store_true", help="show what would happen, and change nothing")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the tables for GitHub there as well")
    parser.add_argument("--rollback", action="store_true", help="give the place back to the champion before this one")
    parser.add_argument("--again", action="store_true", help="weigh a version too that was rolled back")
    arguments = parser.parse_args()
    if arguments.rollback and (arguments.dry_run or arguments.again or arguments.markdown):
        parser.error("--rollback goes with --model only")
    sections = [arguments.model] if arguments.model else list(CONTENDERS)
    with registry.mlflow_errors_as_user_errors():
        if arguments.rollback:
            roll_back(sections)
            return
        run = dry_run if arguments.dry_run else promote
        sys.exit(run(sections, arguments.again, arguments.markdown))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what holds the lock gives it back
    terminal.run_stage(main)
