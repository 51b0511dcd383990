"""Records a promotion in MLflow: a run with the tables, tags of the versions, the aliases, the champions' history.

ops/project/registry.py lists the aliases and tags.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ops.drift.profile import write_profile
from ops.project import registry
from ops.project.networks import CNN
from ops.promote.comparison import ROLLED_BACK, Comparison
from ops.promote.gate.policy import POLICY
from ops.promote.text import markdown


def record(run: registry.RunWriter, comparisons: Sequence[Comparison]) -> None:
    """Records tables, metrics and profile in the run: all slow writes that can fail, before the alias moves."""
    run.artifact(POLICY)
    run.text(markdown(comparisons, done=True), "promotion.md")
    for comparison in comparisons:
        network = comparison.contender.network
        for line in comparison.decision.lines:
            if line.metric.startswith("recall of "):  # MLflow does not take every class name
                continue
            values = line._asdict() | {"metric": None, "rule": None, "passed": None}
            run.metrics({f"{network.section}.{line.metric}.{key}": v for key, v in values.items() if v is not None})
        if comparison.decision.promote and network == CNN:
            with tempfile.TemporaryDirectory(prefix="profile-") as folder:
                write_profile(Path(folder))
                run.artifact(Path(folder), "profile")


def settle(run: registry.RunWriter, comparison: Comparison, commit: str) -> None:
    """Records the decision: first tags, then the alias, then the history. Whenever this is killed, there is a champion
    with all its tags, and the next promotion completes the rest (`complete_history`)."""
    candidate, champion, decision, now = comparison.candidate, comparison.champion, comparison.decision, registry.now()
    assert candidate is not None
    differences = {
        line.metric: f"{line.difference:+.5g} [{line.low:+.5g}, {line.high:+.5g}]"
        for line in decision.lines
        if line.low is not None and not line.metric.startswith("recall of ")
    }
    registry.tag(
        candidate,
        {
            "promotion.decision": "promoted" if decision.promote else "refused",
            "promotion.reason": decision.reason,
            "promotion.time": now,
            "promotion.against": str(champion.number) if champion else "none",
            "promotion.commit": commit,
            "promotion.run": run.run_id,
        }
        | {f"promotion.{metric}_difference": text for metric, text in differences.items()},
    )
    run.tags(
        {f"promotion.{candidate.model}": f"version {candidate.number} {decision.verdict().lower()} {decision.reason}"}
    )
    if champion:
        registry.tag(
            champion,
            {"promotion.challenger": f"version {candidate.number}, {now}: {decision.verdict()} {decision.reason}"},
        )
    if not decision.promote:
        return
    if candidate.model == CNN.model:
        registry.tag(candidate, {"profile": f"runs:/{run.run_id}/profile"})
    registry.untag(candidate, ROLLED_BACK, "champion.until", "champion.previous")
    registry.tag(candidate, {"champion.since": now} | ({"champion.previous": str(champion.number)} if champion else {}))
    registry.set_alias(candidate, "champion")
    if champion:
        registry.tag(champion, {"champion.until": now})
    main_metric = comparison.contender.policy.main
    gain = f"{main_metric} {differences[main_metric]}" if champion else "the first"
    registry.add_to_history(candidate.model, f"version {candidate.number} promoted {now}, commit {commit[:7]}, {gain}")


def complete_history(model: str) -> None:
    """Completes the records of a promotion or rollback that was killed after moving the alias."""
    champion, lines = registry.champion(model), registry.history(model)
    if champion is None or (lines and lines[-1].startswith(f"version {champion.number} ")):
        return
    since = champion.tags.get("champion.since", "an unknown time")
    for version in registry.versions(model):
        if str(version.number) == champion.tags.get("champion.previous") and "champion.until" not in version.tags:
            registry.tag(version, {"champion.until": since})
    registry.add_to_history(model, f"version {champion.number} champion since {since}, recorded {registry.now()}")
