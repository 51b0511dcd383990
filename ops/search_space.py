"""What a search varies and what it aims at: the words of ops.search's command line, checked before anything runs.

The space of a param is one of

    32,48,64           one of these
    int(2,12)          a whole number from 2 to 12; int(8,64,8) in steps of 8
    float(0,0.3)       a number from 0 to 0.3; float(0,0.3,0.1) in steps of 0.1
    log(1e-4,1e-2)     a number, drawn evenly on a logarithmic scale; a whole one where the param takes no other

Objectives are the figures of the validation images, in data/train_cnn/metrics.json and data/train_gan/metrics.json,
and searched params themselves, as a cost.
"""

import json
import math
import random
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial
from pydantic import ValidationError

from stages.augment import AugmentParams
from stages.ingest import IngestParams
from stages.lib.params import Params, load_params
from stages.lib.terminal import UserError
from stages.train_cnn import CnnParams
from stages.train_gan import GanParams

Direction = Literal["minimise", "maximise"]
Space = dict[str, BaseDistribution]  # by param, such as gan.lr

MODELS: dict[str, type[Params]] = {"ingest": IngestParams, "augment": AugmentParams, "cnn": CnnParams, "gan": GanParams}
# What is measured on the validation images, and which way is better; None where that depends on what is wanted.
METRICS: dict[str, Direction | None] = {
    "cnn.val_accuracy": "maximise",
    "cnn.val_nll": "minimise",
    "cnn.best_epoch": None,
    "cnn.weights": None,
    "gan.val_fd": "minimise",
    "gan.val_diversity": None,
    "gan.val_label_accuracy": "maximise",
    "gan.best_step": None,
    "gan.weights": None,
}
MOVED_BY = {"cnn": {"ingest", "augment", "cnn"}, "gan": {"gan"}}  # sections of params that change a network's figures
TEST_METRICS = Path("data/evaluate/metrics.json")
# These decide which images there are, and which of them are for validation.
SPLIT = {"source", "val_fraction", "test_fraction", "limit_per_class", "max_bad_fraction"}
COMBINATIONS = 4096  # of the ends of all ranges that are checked at most


@dataclass(frozen=True)
class Objective:
    """A metric such as gan.val_fd, or a searched param, and where it should go."""

    name: str
    direction: Direction

    @property
    def stage(self) -> str | None:
        """The stage that measures it; None for a param."""
        return f"train_{self.name.split('.')[0]}" if self.name in METRICS else None

    @property
    def comes_while_training(self) -> bool:
        """Whether the stage measures it again and again, so that a hopeless trial can be seen."""
        return self.name in METRICS and ".val_" in self.name


# ---------------------------------------------------------------- objectives


def parse_objective(name: str, direction: Direction) -> Objective:
    """Raises UserError for metrics of the test images, for unknown ones, and for a direction that makes them worse.

    A name that is no metric is taken for a param; `check_together` sees whether it is a searched one.
    """
    better = METRICS.get(name)
    if better and better != direction:
        way = "lower" if better == "minimise" else "higher"
        raise UserError(f"--{direction} {name}: this figure is better when it is {way}: --{better} {name}")
    if name in METRICS or _is_param(name):
        return Objective(name, direction)
    if name in _test_metrics():
        raise UserError(
            f"{name} is measured on the test images, which no choice may look at: a search would fit the networks to "
            f"them, and nothing would be left to say how good they are. Take one of {_listed(METRICS)}"
        )
    raise UserError(f"{name} is neither a metric of the validation images ({_listed(METRICS)}) nor a param")


def _is_param(name: str) -> bool:
    section, _, field = name.partition(".")
    return section in MODELS and field in MODELS[section].model_fields


def _test_metrics() -> set[str]:
    if not TEST_METRICS.exists():
        return set()
    groups = json.loads(TEST_METRICS.read_text(encoding="utf-8"))
    return {f"{group}.{name}" for group, values in groups.items() for name in values}


# ---------------------------------------------------------------- the space


def parse_space(words: Sequence[str]) -> Space:
    """From words such as `gan.lr=log(1e-4,1e-2)`. Raises UserError for what is no space, and for unknown params."""
    space: Space = {}
    for word in words:
        key, _, text = word.partition("=")
        if not text:
            raise UserError(f"-S {word}: expected PARAM=SPACE, such as gan.lr=log(1e-4,1e-2) or gan.width=32,48,64")
        if key in space:
            raise UserError(f"-S {word}: {key} has a space already")
        space[key] = _distribution(word, key, text.strip())
    return space


def _distribution(word: str, key: str, text: str) -> BaseDistribution:
    whole = _takes_whole_numbers_only(key)
    call = re.fullmatch(r"(\w+)\s*\((.*)\)", text)
    if not call:
        choices = [_choice(word, choice) for choice in _split(text)]
        if len(set(map(str, choices))) < len(choices):
            raise UserError(f"-S {word}: a value is there twice")
        return CategoricalDistribution(choices)
    kind, arguments = call[1], _split(call[2])
    if kind not in ("int", "float", "log"):
        raise UserError(f"-S {word}: expected int(low,high), float(low,high), log(low,high) or values with commas")
    if not 2 <= len(arguments) <= (2 if kind == "log" else 3):
        raise UserError(f"-S {word}: expected {kind}(low,high){'' if kind == 'log' else f' or {kind}(low,high,step)'}")
    low, high, *steps = (_number(word, argument) for argument in arguments)
    if not low < high:
        raise UserError(f"-S {word}: the lower end {low:g} is not below the upper end {high:g}")
    if kind == "float" and whole:
        raise UserError(f"-S {word}: {key} takes whole numbers: int({arguments[0]},{arguments[1]})")
    if kind == "log" and low <= 0:
        raise UserError(f"-S {word}: a logarithmic scale starts above 0, not at {low:g}")
    for step in steps:
        count = (high - low) / step if step > 0 else 0.5
        if abs(count - round(count)) > 1e-9:
            raise UserError(f"-S {word}: steps of {step:g} do not lead from {low:g} to {high:g}")
    if kind == "int" or (kind == "log" and whole):
        if any(number != round(number) for number in (low, high, *steps)):
            raise UserError(f"-S {word}: expected whole numbers")
        return IntDistribution(round(low), round(high), log=kind == "log", step=round(steps[0]) if steps else 1)
    return FloatDistribution(low, high, log=kind == "log", step=steps[0] if steps else None)


def _takes_whole_numbers_only(key: str) -> bool:
    section, _, field = key.partition(".")
    if section not in MODELS:
        other = "changes no metric that can be searched" if section in ("validate", "reference", "evaluate") else ""
        raise UserError(f"{key}: {other or f'`{section}` is no section of params.yaml'}; expected {_listed(MODELS)}")
    if field not in MODELS[section].model_fields:
        fields = ", ".join(MODELS[section].model_fields)
        raise UserError(f"`{key}` is not a param; `{section}` takes {fields}")
    types = set(_leaves(MODELS[section].model_fields[field].annotation))
    return int in types and float not in types


def _leaves(annotation: Any) -> Iterator[Any]:
    """The types that an annotation such as `float | None` is made of."""
    parts = get_args(annotation)
    if not parts:
        yield annotation
    for part in parts:
        yield from _leaves(part)


def _split(text: str) -> list[str]:
    """At the commas outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[(") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _number(word: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"-S {word}: {text!r} is not a number")
    return number


def _choice(word: str, text: str) -> int | float | str:
    """A number, or else the text as `dvc exp run -S` takes it: true, null, one_cycle, [translation,cutout]."""
    if not text:
        raise UserError(f"-S {word}: a value between two commas is empty")
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


# ---------------------------------------------------------------- both together


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
        raise UserError(f"a param is an objective beside a metric; add one of {_listed(METRICS)}")
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
        raise UserError(f"{key} changes the ruler of gan.val_fd: the figures of the trials could not be compared")
    if not any(section in MOVED_BY[network] for network in measured):
        raise UserError(f"{key} changes none of the objectives")


def _check_prunable(objectives: Sequence[Objective]) -> None:
    if len(objectives) > 1:
        raise UserError("--prune wants a single objective: of several, no trial is hopeless before its end")
    if not objectives[0].comes_while_training:
        known = _listed(name for name in METRICS if ".val_" in name)
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


def plain(value: Any) -> Any:
    """A value of a space as params.yaml would hold it: None for `null`, a list for `[translation]`."""
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        raise UserError(f"{value!r} is no value that params.yaml could hold") from None


def _listed(names: Any) -> str:
    return ", ".join(names)


# ---------------------------------------------------------------- values


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """What the sampler wants to try."""
    return {key: _suggested(trial, key, distribution) for key, distribution in space.items()}


def _suggested(trial: Trial, key: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(key, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def current_values(space: Space) -> dict[str, Any]:
    """What params.yaml holds, of the searched params whose value there lies in the space."""
    document = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = {}
    for key, distribution in space.items():
        section, field = key.split(".")
        value = MODELS[section].model_validate(document[section]).model_dump()[field]
        if isinstance(distribution, CategoricalDistribution):
            found.update((key, choice) for choice in distribution.choices if plain(choice) == value)
        elif isinstance(value, int | float) and _lies_in(distribution, value):
            found[key] = value
    return found


def _lies_in(distribution: BaseDistribution, value: float) -> bool:
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    steps = (value - distribution.low) / (distribution.step or math.inf)
    return distribution.low <= value <= distribution.high and abs(steps - round(steps)) < 1e-9
