"""Promotion of the better models to champion, its dry run, and the rollback to the previous champion."""

from collections.abc import Sequence
from pathlib import Path

from ops.project import registry
from ops.project.networks import NETWORKS
from ops.project.pipeline import check_shared_store, git
from ops.project.registry import Version
from ops.project.registry_lock import promotion_lock
from ops.promote.comparison import ROLLED_BACK, Comparison, check_committed, check_files, compare
from ops.promote.contenders import CONTENDERS, register_missing
from ops.promote.history import complete_history, record, settle
from ops.promote.text import markdown, terminal_text
from stages.running import terminal
from stages.running.terminal import UserError

NOT_PROMOTED = 3  # exit code


def promote(sections: Sequence[str], again: bool, target: Path | None) -> int:
    """Compares and promotes; returns the exit code. target: a file for the tables in Markdown."""
    check_shared_store()
    contenders = [CONTENDERS[section]() for section in sections]
    check_files(contenders)
    check_committed()
    commit = git("rev-parse", "HEAD")
    if not registry.exists():
        register_missing(contenders)  # creates the store, which also holds the lock
    with promotion_lock():
        register_missing(contenders)
        for contender in contenders:
            complete_history(contender.network.model)
        comparisons = [compare(contender, again) for contender in contenders]
        for comparison in comparisons:
            assert comparison.candidate is not None
            registry.set_alias(comparison.candidate, "candidate")
        if any(comparison.measured for comparison in comparisons):
            with registry.new_run("promote", commit, {}) as run:
                record(run, comparisons)
                for comparison in comparisons:
                    if comparison.measured:
                        settle(run, comparison, commit)
    return _report(comparisons, target, done=True)


def dry_run(sections: Sequence[str], again: bool, target: Path | None) -> int:
    """Compares and changes nothing; returns the exit code."""
    check_shared_store()
    contenders = [CONTENDERS[section]() for section in sections]
    check_files(contenders)
    return _report([compare(contender, again) for contender in contenders], target, done=False)


def _report(comparisons: Sequence[Comparison], target: Path | None, done: bool) -> int:
    """Prints the tables, writes them to `target`, and returns the exit code."""
    for comparison in comparisons:
        print(f"\n{terminal_text(comparison, done)}")
    if target:
        target.write_text(markdown(comparisons, done), encoding="utf-8")
    return (
        0 if all(comparison.is_champion or comparison.decision.promote for comparison in comparisons) else NOT_PROMOTED
    )


def roll_back(sections: Sequence[str]) -> None:
    """Moves the alias back to the previous champion. Raises UserError when no model has one."""
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
    """Rolls back one model; returns a sentence about it, and whether the champion changed."""
    champion, now = registry.champion(model), registry.now()
    if champion is None:
        return f"{model} has no champion", False
    restored = _previous_champion(champion)
    if restored is None:
        return f"version {champion.number} of {model} has no previous champion that was not rolled back itself", False
    registry.tag(champion, {ROLLED_BACK: now, "champion.until": now, "promotion.decision": "rolled back"})
    registry.untag(restored, "champion.until")
    registry.tag(restored, {"champion.since": now})
    registry.set_alias(restored, "champion")
    by = f"by rollback of version {champion.number}"
    registry.add_to_history(model, f"version {restored.number} restored {now}, {by}")
    return f"{model}: version {restored.number} is the champion again, instead of version {champion.number}", True


def _previous_champion(champion: Version) -> Version | None:
    """The newest champion before this one that was not rolled back."""
    versions = {str(version.number): version for version in registry.versions(champion.model)}
    seen, number = {str(champion.number)}, champion.tags.get("champion.previous", "")
    while number in versions and number not in seen:
        if ROLLED_BACK not in versions[number].tags:
            return versions[number]
        seen.add(number)
        number = versions[number].tags.get("champion.previous", "")
    return None
