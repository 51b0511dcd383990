"""Reads one section of params.yaml into a typed, frozen model, or stops with one sentence that names the key."""

import reprlib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from stages.running.moved_params import name_elsewhere, params_to_move
from stages.running.terminal import UserError

MAX_PROBLEMS = 10  # that one error names
SHORT_REPR = reprlib.Repr()  # a value may have a million characters, or be nested without end
SHORT_REPR.maxstring = SHORT_REPR.maxother = SHORT_REPR.maxlong = 80
SHORT_REPR.maxlevel = 2


class Params(BaseModel):
    """Base of every stage's params: unknown keys, NaN and infinity are errors, and values cannot be reassigned."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _rejects_booleans(cls, value: Any, info: ValidationInfo) -> Any:
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
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or an impossible date
        text = " ".join(str(error).split()).encode("ascii", "backslashreplace").decode()
        raise UserError(f"{path} is not valid YAML: {text[:300]}") from None
    if isinstance(document, dict) and (moved := params_to_move(document, section)):
        shown = ", ".join(f"`{old}` is now `{new}`" for old, new in list(moved.items())[:MAX_PROBLEMS])
        more = f" and {len(moved) - MAX_PROBLEMS} more" if len(moved) > MAX_PROBLEMS else ""
        raise UserError(f"{path}: {shown}{more}: move them, or run `uv run visionloop upgrade`")
    if not isinstance(document, dict) or not isinstance(document.get(section), dict):
        raise UserError(f"{path} has no section `{section}:` with keys below it; see docs/params.md")
    try:
        return model.model_validate(document[section])
    except ValidationError as error:
        problems = error.errors(include_url=False)
        sentences = [_sentence(model, section, problem) for problem in problems[:MAX_PROBLEMS]]
        more = f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        raise UserError(f"{path}: " + "; ".join(sentences) + more) from None


def _sentence(model: type[Params], section: str, problem: Any) -> str:
    parts = [str(part) for part in problem["loc"] if not str(part).startswith("function-")]
    # An unprintable or very long key is quoted.
    key = ".".join([section, *(part if part.isprintable() and len(part) <= 80 else _quoted(part) for part in parts)])
    if problem["type"] == "extra_forbidden":
        if elsewhere := name_elsewhere(section, parts[-1]):
            return f"`{key}` is not a param: use `{elsewhere}`"
        return f"`{key}` is not a param; `{section}` takes {', '.join(model.model_fields)}"
    if problem["type"] == "missing":
        return f"`{key}` is missing"
    if not problem["loc"]:  # a check across several keys: its message names them
        return f"`{section}`: {problem['msg'].removeprefix('Value error, ')}"
    return f"`{key}` is {_quoted(problem['input'])}: {_lower_first(problem['msg'].removeprefix('Value error, '))}"


def _quoted(value: Any) -> str:
    try:
        return SHORT_REPR.repr(value)
    except ValueError:  # Python refuses to convert a number of more than 4300 digits
        return "a number with thousands of digits"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
