"""What a search varies: the spaces of params on the command line, and the values drawn from them.

The space of a param is one of

    32,48,64           one of these
    int(2,12)          a whole number from 2 to 12; int(8,64,8) in steps of 8
    float(0,0.3)       a number from 0 to 0.3; float(0,0.3,0.1) in steps of 0.1
    log(1e-4,1e-2)     a number, drawn evenly on a logarithmic scale; a whole one where the param takes no other
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
    """Whether there is a param of this name that a search may vary."""
    section, _, field = key.partition(".")
    return section in MODELS and field in MODELS[section].model_fields


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
        other = "changes no metric that can be searched" if section in OTHER_SECTIONS else ""
        raise UserError(f"{key}: {other or f'`{section}` is no section of params.yaml'}; expected {', '.join(MODELS)}")
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


# ---------------------------------------------------------------- values


def plain(value: Any) -> Any:
    """A value of a space as params.yaml would hold it: None for `null`, a list for `[translation]`."""
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        raise UserError(f"{value!r} is no value that params.yaml could hold") from None


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
