"""Reads one section of params.yaml into a typed, frozen model, or stops with one sentence that names the key."""

import reprlib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from stages.running.moved_params import left_behind, place_of
from stages.running.terminal import UserError

SHOWN = 10  # problems that an error names
BRIEF = reprlib.Repr()  # a value may be a million characters, or lists within lists without end
BRIEF.maxstring = BRIEF.maxother = BRIEF.maxlong = 80
BRIEF.maxlevel = 2


class Params(BaseModel):
    """Base of every stage's params: unknown keys, NaN and infinity are errors, and values cannot be reassigned."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("expected a number or text, got true/false")
        return value


P = TypeVar("P", bound=Params)


def load_params(model: type[P], section: str, path: str | Path = "params.yaml") -> P:
    """Returns `section` of the params file as `model`.

    Numbers written as `1e-05`, which YAML 1.1 reads as a string (and which DVC writes), are accepted as numbers.

    Raises UserError naming the key, the value found and what is allowed.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} not found: run from the root of the project, where dvc.yaml is") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or no date of the calendar
        text = " ".join(str(error).split()).encode("ascii", "backslashreplace").decode()
        raise UserError(f"{path} is not valid YAML: {text[:300]}") from None
    if isinstance(document, dict) and (moved := left_behind(document, section)):
        shown = ", ".join(f"`{old}` is now `{new}`" for old, new in list(moved.items())[:SHOWN])
        more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
        raise UserError(f"{path}: {shown}{more}: move them, or run `python -m ops upgrade`, which does")
    if not isinstance(document, dict) or not isinstance(document.get(section), dict):
        raise UserError(f"{path} has no section `{section}:` with keys below it; see the README, Params")
    try:
        return model.model_validate(document[section])
    except ValidationError as error:
        problems = error.errors(include_url=False)
        sentences = [_sentence(model, section, problem) for problem in problems[:SHOWN]]
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UserError(f"{path}: " + "; ".join(sentences) + more) from None


def _sentence(model: type[Params], section: str, problem: Any) -> str:
    parts = [str(part) for part in problem["loc"] if not str(part).startswith("function-")]
    # A key is quoted where it does not read well.
    key = ".".join([section, *(part if part.isprintable() and len(part) <= 80 else _brief(part) for part in parts)])
    if problem["type"] == "extra_forbidden":
        if elsewhere := place_of(section, parts[-1]):
            return f"`{key}` is not a param: it is `{elsewhere}`"
        return f"`{key}` is not a param; `{section}` takes {', '.join(model.model_fields)}"
    if problem["type"] == "missing":
        return f"`{key}` is missing"
    if not problem["loc"]:  # a check across several keys: its message names them
        return f"`{section}`: {problem['msg'].removeprefix('Value error, ')}"
    return f"`{key}` is {_brief(problem['input'])}: {_lower_first(problem['msg'].removeprefix('Value error, '))}"


def _brief(value: Any) -> str:
    try:
        return BRIEF.repr(value)
    except ValueError:  # Python refuses to write out a number of more than 4300 digits
        return "a number with thousands of digits"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
