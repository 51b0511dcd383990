"""Checks that the trials of a search are comparable and that the stages accept their params."""

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

from ops.search.metrics import METRICS
from ops.search.objectives import Objective
from ops.search.space import MODELS, Space, plain
from stages.core.params import Params, load_params
from stages.running.terminal import UserError

AFFECTED_BY = {"cnn": {"ingest", "augment", "cnn"}, "gan": {"gan"}}  # sections that change a network's metrics
# Params that decide which images there are, and which of them are for validation.
SPLIT_PARAMS = {"source", "val_fraction", "test_fraction", "limit_per_class", "max_bad_fraction"}
MAX_COMBINATIONS = 4096  # of the bounds of all ranges, to be checked


def check_together(space: Space, objectives: Sequence[Objective], prune: str | None) -> None:
    """Raises UserError when the trials would not be comparable, when the stages do not allow a value, and when the
    search has no space or no objective."""
    if not space or not objectives:
        raise UserError("expected at least one -S PARAM=SPACE, and one --minimise or --maximise METRIC")
    names = [objective.name for objective in objectives]
    if len(set(names)) < len(names):
        raise UserError(f"an objective is given twice: {', '.join(names)}")
    measured = {objective.name.split(".")[0] for objective in objectives if objective.stage}
    if not measured:
        raise UserError(f"a param is an objective only together with a metric: add one of {', '.join(METRICS)}")
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
        raise UserError(f"{name} is an objective but the same in every trial: give its space, -S {name}=...")
    distribution = space[name]
    if isinstance(distribution, CategoricalDistribution) and any(isinstance(c, str) for c in distribution.choices):
        raise UserError(f"{name} is an objective, but not all of its values are numbers: search for numbers only")


def _check_comparable(key: str, measured: set[str]) -> None:
    section, field = key.split(".")
    if section == "ingest" and field in SPLIT_PARAMS:
        raise UserError(
            f"{key} decides which images the trials are measured on, so their metrics would not be comparable: "
            "run a separate search for each value"
        )
    if "gan" in measured and (section == "ingest" or key == "gan.evaluate_images"):
        raise UserError(f"{key} changes how gan.val_fd is measured: the metrics of the trials would not be comparable")
    if not any(section in AFFECTED_BY[network] for network in measured):
        raise UserError(f"{key} changes none of the objectives: remove it from the space")


def _check_prunable(objectives: Sequence[Objective]) -> None:
    if len(objectives) > 1:
        raise UserError("--prune needs a single objective: with several, no trial is hopeless before its end")
    if not objectives[0].measured_during_training:
        metrics = ", ".join(name for name in METRICS if ".val_" in name)
        raise UserError(f"--prune needs a metric that is measured while a network trains: one of {metrics}")


def _check_values(section: str, model: type[Params], space: Space) -> None:
    """Validates the bounds of all ranges and all choices with the stage's params model, in all combinations."""
    load_params(model, section)  # the values in params.yaml must be valid, too
    current = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))[section]
    extremes = {key: _extremes(distribution) for key, distribution in space.items()}
    for combination in _combinations(list(extremes.values())):
        changed = {key.split(".")[1]: plain(value) for key, value in zip(extremes, combination, strict=True)}
        try:
            model.model_validate(current | changed)
        except ValidationError:
            searched = ", ".join(f"{key}={value}" for key, value in zip(extremes, combination, strict=True))
            raise UserError(f"{_stage_error(model, section, current | changed)} (with {searched})") from None


def _combinations(extremes: Sequence[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    """All combinations, or a random sample when there are too many."""
    if math.prod(map(len, extremes)) <= MAX_COMBINATIONS:
        yield from product(*extremes)
    else:
        generator = random.Random(0)
        yield from (tuple(generator.choice(values) for values in extremes) for _ in range(MAX_COMBINATIONS))


def _stage_error(model: type[Params], section: str, values: Mapping[str, Any]) -> str:
    """The error message of the stage for these values."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(yaml.safe_dump({section: dict(values)}), encoding="utf-8")
        try:
            load_params(model, section, path)
        except UserError as error:
            return str(error).removeprefix(f"{path}: ")
    return f"`{section}` does not allow this combination of values"


def _extremes(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low, distribution.high]
