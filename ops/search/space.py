"""The search space: the spaces of params on the command line, and the values drawn from them.

The space of a param is one of

    32,48,64           one of these values
    int(2,12)          a whole number from 2 to 12; int(8,64,8) in steps of 8
    float(0,0.3)       a number from 0 to 0.3; float(0,0.3,0.1) in steps of 0.1
    log(1e-4,1e-2)     a number, drawn log-uniformly; a whole number where the param only takes those
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from ops.project.networks import NETWORKS
from stages.augment import AugmentParams
from stages.core.params import Params
from stages.ingest import IngestParams
from stages.running.terminal import UserError
from stages.train_cnn import CnnParams
from stages.train_gan import GanParams

Space = dict[str, BaseDistribution]  # by param, such as gan.lr

MODELS: dict[str, type[Params]] = {"ingest": IngestParams, "augment": AugmentParams, "cnn": CnnParams, "gan": GanParams}
# Sections of params.yaml that no objective depends on.
OTHER_SECTIONS = {"validate", "reference", *(network.evaluate_stage for network in NETWORKS.values())}


def is_param(key: str) -> bool:
    """Whether this is the name of a param that a search can vary."""
    section, _, field = key.partition(".")
    return section in MODELS and field in MODELS[section].model_fields


def parse_space(words: Sequence[str]) -> Space:
    """Parses words such as `gan.lr=log(1e-4,1e-2)`. Raises UserError for an invalid space or an unknown param."""
    space: Space = {}
    for word in words:
        key, _, text = word.partition("=")
        if not text:
            raise UserError(f"-S {word}: expected PARAM=SPACE, such as gan.lr=log(1e-4,1e-2) or gan.width=32,48,64")
        if key in space:
            raise UserError(f"-S {word}: {key} already has a space: give one -S per param")
        space[key] = _distribution(word, key, text.strip())
    return space


def _distribution(word: str, key: str, text: str) -> BaseDistribution:
    whole = _takes_only_whole_numbers(key)
    call = re.fullmatch(r"(\w+)\s*\((.*)\)", text)
    if not call:
        choices = [_choice(word, choice) for choice in _split(text)]
        if len(set(map(str, choices))) < len(choices):
            raise UserError(f"-S {word}: a value is given twice")
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
        raise UserError(f"-S {word}: {key} takes whole numbers: write int({arguments[0]},{arguments[1]})")
    if kind == "log" and low <= 0:
        raise UserError(f"-S {word}: a logarithmic scale starts above 0, not at {low:g}")
    for step in steps:
        count = (high - low) / step if step > 0 else 0.5
        if abs(count - round(count)) > 1e-9:
            raise UserError(f"-S {word}: {high:g} cannot be reached from {low:g} in steps of {step:g}")
    if kind == "int" or (kind == "log" and whole):
        if any(number != round(number) for number in (low, high, *steps)):
            raise UserError(f"-S {word}: expected whole numbers in the parentheses")
        return IntDistribution(round(low), round(high), log=kind == "log", step=round(steps[0]) if steps else 1)
    return FloatDistribution(low, high, log=kind == "log", step=steps[0] if steps else None)


def _takes_only_whole_numbers(key: str) -> bool:
    section, _, field = key.partition(".")
    if section not in MODELS:
        other = "changes no metric that a search can use" if section in OTHER_SECTIONS else ""
        raise UserError(
            f"{key}: {other or f'`{section}` is not a section of params.yaml'}; expected {', '.join(MODELS)}"
        )
    if field not in MODELS[section].model_fields:
        fields = ", ".join(MODELS[section].model_fields)
        raise UserError(f"`{key}` is not a param; `{section}` takes {fields}")
    types = set(_leaves(MODELS[section].model_fields[field].annotation))
    return int in types and float not in types


def _leaves(annotation: Any) -> Iterator[Any]:
    """The types in an annotation such as `float | None`."""
    parts = get_args(annotation)
    if not parts:
        yield annotation
    for part in parts:
        yield from _leaves(part)


def _split(text: str) -> list[str]:
    """Splits a text at the commas outside of brackets."""
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
        raise UserError(f"-S {word}: a value is empty: remove the surplus comma")
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


# ---------------------------------------------------------------- values


def plain(value: Any) -> Any:
    """A value of a space as params.yaml holds it: None for `null`, a list for `[translation]`."""
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        raise UserError(f"{value!r} is not valid YAML for params.yaml") from None


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """The values that the sampler proposes, by param."""
    return {key: _suggested(trial, key, distribution) for key, distribution in space.items()}


def _suggested(trial: Trial, key: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(key, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def current_values(space: Space) -> dict[str, Any]:
    """The values in params.yaml of the searched params, where they lie in the space."""
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
