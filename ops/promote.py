"""Weighs the models of this commit against the champions, and promotes those that win: `python -m ops.promote`.

Reads  data/ingest, data/reference, data/train_cnn/model.keras, data/train_gan/generator.keras as dvc.lock names them,
       promotion.yaml, the champions in MLflow's registry (MLFLOW_TRACKING_URI, or mlflow.db)
Writes the registry: the alias `champion`, tags that say why, a run with the table (see ops/registry.py)

Exit code: 0 when every model of this commit is the champion now, or was already; 3 when one was weighed and not
promoted; 1 when something is in the way.
"""

import argparse
import hashlib
import json
import signal
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

import numpy as np

from ops import gate, registry
from ops.measure import class_probabilities, generated_images
from ops.pipeline import check_shared_store, git, locked_md5, stale_stages
from ops.registry import Files, Version
from stages import evaluate
from stages.lib import terminal, tracking
from stages.lib.dataset import open_shards, pick, read_classes, read_images, read_labels
from stages.lib.generation import is_conditional
from stages.lib.network_files import load_network
from stages.lib.params import load_params
from stages.lib.reference_space import ReferenceSpace
from stages.lib.terminal import UserError

CLASSES, METRICS = evaluate.DATA / "classes.json", evaluate.OUTPUT / "metrics.json"
PASSED = Path("data/validate/passed")
ROLLED_BACK = "champion.rolled_back"


# ---------------------------------------------------------------- what is weighed


class Contender(ABC):
    """A network of this commit, and how it is compared with others on today's images."""

    name: str  # of the registered model
    network: Path
    serve: Path
    policy: gate.ClassifierPolicy | gate.GeneratorPolicy

    def files(self) -> list[Path]:
        """What is registered beside the network, in the order of `stages.evaluate.register`."""
        return [CLASSES]

    @cached_property
    def today(self) -> list[str]:
        """The classes of the data that is here; this commit's networks know exactly these."""
        return read_classes(evaluate.DATA)

    def bundle_sha256(self) -> str:
        """What a registered version of exactly these files is tagged with."""
        parts = (self.network, self.serve, *self.files())
        return hashlib.sha256("".join(tracking.sha256_of(path) for path in parts).encode()).hexdigest()

    def registered(self) -> Version | None:
        """The version that is made of exactly these files."""
        bundle = self.bundle_sha256()
        found = registry.versions(self.name)
        return next((version for version in found if version.tags.get("bundle_sha256") == bundle), None)

    @abstractmethod
    def against(self, other: Files | None) -> gate.Decision:
        """What the gate says of this network, when `other` is the champion; None when there is none."""


class Classifier(Contender):
    name, network, serve = gate.CNN, evaluate.CNN, Path("stages/lib/serve_classifier.py")

    def __init__(self) -> None:
        self.policy: gate.ClassifierPolicy = gate.classifier_policy()

    def files(self) -> list[Path]:
        return evaluate.classifier_files()

    @cached_property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        return read_images(evaluate.DATA, "test"), read_labels(evaluate.DATA, "test")

    @cached_property
    def ours(self) -> np.ndarray:
        return class_probabilities(self.network, self.today, self.test[0], self.today)

    def against(self, other: Files | None) -> gate.Decision:
        theirs = class_probabilities(other.network, other.classes, self.test[0], self.today) if other else None
        return gate.compare_classifiers(theirs, self.ours, self.test[1], self.today, self.policy)


class Generator(Contender):
    name, network, serve = gate.GAN, evaluate.GAN, Path("stages/lib/serve_generator.py")

    def __init__(self) -> None:
        self.policy: gate.GeneratorPolicy = gate.generator_policy()

    @cached_property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """Test images, and labels of as many images to generate. These are drawn from the train set: with the test
        images' own, real and generated images would not be independent, and KID no longer unbiased."""
        random, shards = np.random.default_rng(self.policy.seed), open_shards(evaluate.DATA, "test")
        available = sum(len(shard) for shard in shards)
        count = min(self.policy.images, available)
        images = pick(shards, np.sort(random.permutation(available)[:count]))
        return images, random.choice(read_labels(evaluate.DATA, "train"), count)

    @cached_property
    def space(self) -> ReferenceSpace:
        return ReferenceSpace(evaluate.REFERENCE)

    @cached_property
    def real(self) -> np.ndarray:
        return self.space(self.test[0])[0]

    @cached_property
    def ours(self) -> gate.Generated:
        return self._made_by(self.network, self.today)

    def against(self, other: Files | None) -> gate.Decision:
        theirs = self._made_by(*other) if other else None
        return gate.compare_generators(theirs, self.ours, self.real, self.policy)

    def _made_by(self, network: Path, classes: Sequence[str]) -> gate.Generated:
        images, labels = self.test
        made = generated_images(network, classes, labels, self.today, images.shape[1:], self.policy.seed)
        features, probabilities = self.space(made)
        return gate.Generated(features, probabilities.argmax(axis=1) == labels)


CONTENDERS: dict[str, type[Classifier] | type[Generator]] = {"cnn": Classifier, "gan": Generator}


class Weighed(NamedTuple):
    """A contender and what became of it."""

    contender: Contender
    candidate: Version | None  # None when these files are not registered
    champion: Version | None
    decision: gate.Decision
    measured: bool  # False when there was nothing to weigh
    previous: gate.Decision | str  # against the previous candidate; or why there is no such comparison

    @property
    def is_champion(self) -> bool:
        return (
            self.candidate is not None and self.champion is not None and self.candidate.number == self.champion.number
        )

    @property
    def title(self) -> str:
        candidate = f"version {self.candidate.number}" if self.candidate else "not registered yet"
        if not self.measured:
            return f"{self.contender.name}: {candidate}"
        champion = f"against the champion, version {self.champion.number}" if self.champion else "no champion yet"
        return f"{self.contender.name}: {candidate}, {champion}"


def weigh(contender: Contender, again: bool = False, with_previous: bool = True) -> Weighed:
    """Compares this commit's network with the champion, both on today's test images. Changes nothing.

    again: whether one that was rolled back counts as any other. with_previous: whether to compare with the previous
    candidate too, which decides nothing.
    """
    candidate, champion = contender.registered(), registry.champion(contender.name)

    def settled(reason: str) -> Weighed:
        return Weighed(contender, candidate, champion, gate.Decision(contender.name, False, reason, []), False, "")

    if candidate and champion and candidate.number == champion.number:
        return settled(f"version {candidate.number} is the champion already")
    if candidate and ROLLED_BACK in candidate.tags and not again:
        return settled(
            f"version {candidate.number} was rolled back at {candidate.tags[ROLLED_BACK]}; "
            "`python -m ops.promote --again` weighs it all the same"
        )
    with tempfile.TemporaryDirectory(prefix="promote-") as folder:
        files = registry.download_version(champion, Path(folder) / "champion") if champion else None
        decision = contender.against(files)
        previous = _against_previous(contender, champion, Path(folder)) if with_previous else ""
    return Weighed(contender, candidate, champion, decision, True, previous)


def _against_previous(contender: Contender, champion: Version | None, folder: Path) -> gate.Decision | str:
    """Compared with the newest version of another network that is not the champion."""
    known = {tracking.sha256_of(contender.network), champion.tags.get("sha256") if champion else None}
    others = (version for version in registry.versions(contender.name) if version.tags.get("sha256") not in known)
    newest = next(others, None)
    if newest is None:
        return "There is no previous candidate to compare with."
    try:
        decision = contender.against(registry.download_version(newest, folder / "previous"))
    except UserError as error:  # shown, never deciding: what is wrong with an old version stops nothing
        return f"The previous candidate cannot be compared with: {error}."
    return gate.Decision(f"version {newest.number}", False, "", [line._replace(rule="") for line in decision.lines])


def forecast() -> list[gate.Decision]:
    """What the gate would say of the networks that are here now, changing nothing.

    Raises UserError when there is no registry to ask, or files are missing.
    """
    check_shared_store()
    contenders = [contender() for contender in CONTENDERS.values()]
    _check_files(contenders)
    with registry.clear_errors():
        return [weigh(contender, with_previous=False).decision for contender in contenders]


# ---------------------------------------------------------------- what has to hold before


def _check_files(contenders: Sequence[Contender]) -> None:
    """Raises UserError unless what is here is what dvc.lock names, and belongs to the code, params and data here."""
    paths = [contender.network for contender in contenders] + [evaluate.REFERENCE, METRICS, PASSED]
    missing = [str(path) for path in (*paths, evaluate.DATA, CLASSES) if not path.exists()]
    if missing:
        raise UserError(f"{', '.join(missing)} not found: run `dvc pull`")
    for path in paths:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != locked_md5(path):
            raise UserError(
                f"{path} is not the file that dvc.lock names: run `dvc checkout`, or `dvc repro` and commit"
            )
    if stale := stale_stages():
        raise UserError(
            f"dvc.lock does not belong to the code, params and data that are here ({', '.join(stale)} would run): "
            "run `dvc repro` and commit dvc.lock, so that what is promoted was made by this commit"
        )


def _check_committed() -> None:
    if git("show", "HEAD:dvc.lock") != Path("dvc.lock").read_text(encoding="utf-8").rstrip("\n"):
        raise UserError("dvc.lock is not committed as it is: commit it, so that the champion can be traced to a commit")


def _register(contenders: Sequence[Contender]) -> None:
    """Registers the networks from the files where MLflow has never seen them: all stages came from the cache."""
    if registry.exists() and all(contender.registered() for contender in contenders):
        return
    metrics = json.loads(METRICS.read_text(encoding="utf-8"))
    shape = open_shards(evaluate.DATA, "test")[0].shape[1:]
    conditional = is_conditional(load_network(evaluate.GAN))
    with tracking.stage_run("evaluate", load_params(evaluate.EvaluateParams, "evaluate")) as run:
        run.tags({"from_cache": "true"})
        for section, values in metrics.items():
            run.metrics({f"{section}.{key}": value for key, value in values.items()})
        evaluate.register(run, metrics, shape, read_classes(evaluate.DATA), conditional)
    if not registry.exists() or not all(contender.registered() for contender in contenders):
        raise UserError(
            "MLflow did not register this commit's networks (VISIONLOOP_TRACKING must not be `off` or `later`; "
            ".visionloop/sender.log says more): run this again"
        )


# ---------------------------------------------------------------- promotion


def promote(sections: Sequence[str], again: bool, markdown: Path | None) -> int:
    """Weighs and promotes; returns the exit code."""
    check_shared_store()
    contenders = [CONTENDERS[section]() for section in sections]
    _check_files([CONTENDERS[section]() for section in ("cnn", "gan")])  # both are registered together
    _check_committed()
    commit = git("rev-parse", "HEAD")
    if not registry.exists():
        _register(contenders)  # which makes the store that the lock is in
    with registry.promotion_lock():
        _register(contenders)
        for contender in contenders:
            _complete_history(contender.name)
        all_weighed = [weigh(contender, again) for contender in contenders]
        for weighed in all_weighed:
            assert weighed.candidate is not None
            registry.set_alias(weighed.candidate, "candidate")
        if any(weighed.measured for weighed in all_weighed):
            with registry.new_run("promote", commit, {}) as run:
                _record(run, all_weighed)
                for weighed in all_weighed:
                    if weighed.measured:
                        _settle(run, weighed, commit)
    _show(all_weighed, markdown, done=True)
    return 0 if all(weighed.is_champion or weighed.decision.promote for weighed in all_weighed) else 3


def _record(run: registry.Record, all_weighed: Sequence[Weighed]) -> None:
    """Everything that can fail slowly, before anything moves."""
    run.artifact(gate.POLICY)
    run.text(_markdown(all_weighed, done=True), "promotion.md")
    for weighed in all_weighed:
        prefix = weighed.contender.name.removeprefix("visionloop-")
        for line in weighed.decision.lines:
            if line.metric.startswith("recall of "):  # MLflow does not take every class name
                continue
            values = line._asdict() | {"metric": None, "rule": None, "passed": None}
            run.metrics({f"{prefix}.{line.metric}.{key}": v for key, v in values.items() if v is not None})
        if weighed.decision.promote and weighed.contender.name == gate.CNN:
            from ops.profile import write_profile

            with tempfile.TemporaryDirectory(prefix="profile-") as folder:
                write_profile(Path(folder))
                run.artifact(Path(folder), "profile")


def _settle(run: registry.Record, weighed: Weighed, commit: str) -> None:
    """Tags first, then the alias, history last: whenever this is killed, there is one champion with all its tags, and
    the next promotion adds what is missing (`_complete_history`)."""
    candidate, champion, decision, now = weighed.candidate, weighed.champion, weighed.decision, registry.now()
    assert candidate is not None
    figures = {
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
        | {f"promotion.{metric}_difference": text for metric, text in figures.items()},
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
    if candidate.model == gate.CNN:
        registry.tag(candidate, {"profile": f"runs:/{run.run_id}/profile"})
    registry.untag(candidate, ROLLED_BACK, "champion.until", "champion.previous")
    registry.tag(candidate, {"champion.since": now} | ({"champion.previous": str(champion.number)} if champion else {}))
    registry.set_alias(candidate, "champion")
    if champion:
        registry.tag(champion, {"champion.until": now})
    main_metric = weighed.contender.policy.main
    gained = f"{main_metric} {figures[main_metric]}" if champion else "the first"
    registry.add_to_history(
        candidate.model, f"version {candidate.number} promoted {now}, commit {commit[:7]}, {gained}"
    )


def _complete_history(name: str) -> None:
    """Adds what a promotion or rollback that was killed after moving the alias could not."""
    champion, lines = registry.champion(name), registry.history(name)
    if champion is None or (lines and lines[-1].startswith(f"version {champion.number} ")):
        return
    since = champion.tags.get("champion.since", "a time that nobody noted")
    for version in registry.versions(name):
        if str(version.number) == champion.tags.get("champion.previous") and "champion.until" not in version.tags:
            registry.tag(version, {"champion.until": since})
    registry.add_to_history(name, f"version {champion.number} champion since {since}, noted here {registry.now()}")


def roll_back(sections: Sequence[str]) -> None:
    """Gives the alias back to the champion before this one. Raises UserError when no model has one."""
    check_shared_store()
    said = []
    with registry.promotion_lock():
        for name in (CONTENDERS[section].name for section in sections):
            _complete_history(name)
            said.append(_roll_back(name))
    moved = [sentence for sentence, was_moved in said if was_moved]
    if not moved:
        raise UserError("nothing to roll back: " + "; ".join(sentence for sentence, _ in said))
    terminal.say(*(sentence for sentence, _ in said))


def _roll_back(name: str) -> tuple[str, bool]:
    """What was done with a model in a sentence, and whether that was anything."""
    champion, now = registry.champion(name), registry.now()
    if champion is None:
        return f"{name} has no champion", False
    restored = _one_before(champion)
    if restored is None:
        return f"version {champion.number} of {name} has no champion before it that was not rolled back itself", False
    registry.tag(champion, {ROLLED_BACK: now, "champion.until": now, "promotion.decision": "rolled back"})
    registry.untag(restored, "champion.until")
    registry.tag(restored, {"champion.since": now})
    registry.set_alias(restored, "champion")
    registry.add_to_history(name, f"version {restored.number} restored {now}, by rollback of version {champion.number}")
    return f"{name}: version {restored.number} is the champion again, instead of version {champion.number}", True


def _one_before(champion: Version) -> Version | None:
    versions = {str(version.number): version for version in registry.versions(champion.model)}
    seen, number = {str(champion.number)}, champion.tags.get("champion.previous", "")
    while number in versions and number not in seen:
        if ROLLED_BACK not in versions[number].tags:
            return versions[number]
        seen.add(number)
        number = versions[number].tags.get("champion.previous", "")
    return None


# ---------------------------------------------------------------- what is said


def _outcome(weighed: Weighed, done: bool) -> str:
    if not weighed.measured:
        return f"Nothing to do: {weighed.decision.reason}."
    if not weighed.decision.promote:
        return f"{'Not promoted' if done else 'Would not be promoted'}: {weighed.decision.reason}."
    return f"{'Promoted' if done else 'Would be promoted'}: {weighed.decision.reason}."


def _show(all_weighed: Sequence[Weighed], markdown: Path | None, done: bool) -> None:
    for weighed in all_weighed:
        blocks = [
            [weighed.title],
            [f"  {line}" for line in weighed.decision.table()],
            wrap(_outcome(weighed, done), 100),
        ]
        if isinstance(weighed.previous, str):
            blocks[-1] += wrap(weighed.previous, 100)
        else:
            blocks.append([f"Against the previous candidate, {weighed.previous.model} (shown, decides nothing):"])
            blocks.append([f"  {line}" for line in weighed.previous.table("previous")])
        print("\n" + "\n\n".join("\n".join(block) for block in blocks if block))
    if markdown:
        markdown.write_text(_markdown(all_weighed, done), encoding="utf-8")


def _markdown(all_weighed: Sequence[Weighed], done: bool) -> str:
    parts = ["## Promotion"]
    for weighed in all_weighed:
        parts += [f"### {weighed.title}", f"**{gate.markdown_safe(_outcome(weighed, done))}**"]
        parts.append(weighed.decision.markdown(verdict=False))
        if isinstance(weighed.previous, str):
            parts.append(gate.markdown_safe(weighed.previous))
        else:
            summary = (
                f"<details><summary>Against the previous candidate, {weighed.previous.model} (shown, decides nothing)"
            )
            table = weighed.previous.markdown("previous", verdict=False)
            parts.append(f"{summary}</summary>\n\n{table}\n</details>")
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ops.promote",
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
    with registry.clear_errors():
        if arguments.rollback:
            roll_back(sections)
            return
        if arguments.dry_run:
            check_shared_store()
            contenders = [CONTENDERS[section]() for section in sections]
            _check_files(contenders)
            all_weighed = [weigh(contender, arguments.again) for contender in contenders]
            _show(all_weighed, arguments.markdown, done=False)
            sys.exit(0 if all(one.is_champion or one.decision.promote for one in all_weighed) else 3)
        sys.exit(promote(sections, arguments.again, arguments.markdown))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what holds the lock gives it back
    terminal.run_stage(main)
