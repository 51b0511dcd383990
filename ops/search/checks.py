"""Whether the trials of a search could be compared with each other, and the stages would take their params."""

import math
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import ValidationError

from ops.search.objectives import METRICS, Objective
from ops.search.space import MODELS, Space, plain
from stages.core.params import Params, load_params
from stages.running.terminal import UserError

MOVED_BY = {"cnn": {"ingest", "augment", "cnn"}, "gan": {"gan"}}  # sections of params that change a network's figures
# These decide which images there are, and which of them are for validation.
SPLIT = {"source", "val_fraction", "test_fraction", "limit_per_class", "max_bad_fraction"}
COMBINATIONS = 4096  # of the ends of all ranges that are checked at most


def check_together(space: Space, objectives: Sequence[Objective], prune: str | None) -> None:
    """Raises UserError when the trials could not be compared, when a value is not allowed by the stages, and when
    there is nothing to choose between."""
    if not space or not objectives:
        raise UserError("expected at least one -S PARAM=SPACE, and one --minimise or --maximise METRIC")
    names = [objective.name for objective in objectives]
    if len(set(names)) < len(names):
        raise UserError(f"an objective is there twice: {', '.join(names)}")
    measured = {objective.name.split(".")[0] for objective in objectives if objective.stage}
    if not measured:
        raise UserError(f"a param is an objective beside a metric; add one of {', '.join(METRICS)}")
    for objective in objectives:
        if not objective.stage:
            _check_cost(objective.name, space)
    for key in space:
        _check_comparable(key, measured)
    if prune:
        _check_prunable(objectives)
    for section, model in MODELS.items():
        _check_values(section, model, {key: d for key, d in space.items() if key.split(".")[0] == section})


def _check_cost(name: str, space: Space) -> None:
    if name not in space:
        raise UserError(f"{name} is an objective and the same in every trial: give its space, -S {name}=...")
    distribution = space[name]
    if isinstance(distribution, CategoricalDistribution) and any(isinstance(c, str) for c in distribution.choices):
        raise UserError(f"{name} is an objective, and not all of its values are numbers")


def _check_comparable(key: str, measured: set[str]) -> None:
    section, field = key.split(".")
    if section == "ingest" and field in SPLIT:
        raise UserError(
            f"{key} decides which images the trials are measured on: their figures could not be compared. "
            "Search for each value by itself"
        )
    if "gan" in measured and (section == "ingest" or key == "gan.evaluate_images"):
        raise UserError(f"{key} changes how gan.val_fd is measured: the figures of the trials could not be compared")
    if not any(section in MOVED_BY[network] for network in measured):
        raise UserError(f"{key} changes none of the objectives")


def _check_prunable(objectives: Sequence[Objective]) -> None:
    if len(objectives) > 1:
        raise UserError("--prune wants a single objective: of several, no trial is hopeless before its end")
    if not objectives[0].comes_while_training:
        known = ", ".join(name for name in METRICS if ".val_" in name)
        raise UserError(f"--prune wants a figure that is measured while a network trains ({known})")


def _check_values(section: str, model: type[Params], space: Space) -> None:
    """Holds the ends of all ranges, and each choice, against the stage's params, in all combinations."""
    load_params(model, section)  # those of the file have to be right, too
    current = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))[section]
    ends = {key: _ends(distribution) for key, distribution in space.items()}
    for combination in _combinations(list(ends.values())):
        changed = {key.split(".")[1]: plain(value) for key, value in zip(ends, combination, strict=True)}
        try:
            model.model_validate(current | changed)
        except ValidationError:
            searched = ", ".join(f"{key}={value}" for key, value in zip(ends, combination, strict=True))
            raise UserError(f"{_sentence(model, section, current | changed)} (with {searched})") from None


def _combinations(ends: Sequence[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    """All, or many drawn at random."""
    if math.prod(map(len, ends)) <= COMBINATIONS:
        yield from product(*ends)
    else:
        dice = random.Random(0)
        yield from (tuple(dice.choice(values) for values in ends) for _ in range(COMBINATIONS))


def _sentence(model: type[Params], section: str, values: Mapping[str, Any]) -> str:
    """What the stage would say to these values."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(yaml.safe_dump({section: dict(values)}), encoding="utf-8")
        try:
            load_params(model, section, path)
        except UserError as error:
            return str(error).removeprefix(f"{path}: ")
    return f"`{section}` takes these values one by one and not together"


def _ends(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low, distribution.high]
