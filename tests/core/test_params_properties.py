"""Whatever stands in params.yaml, a stage gets params within their bounds, or one sentence."""

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.core.params import Params, load_params
from stages.running.terminal import UserError

DEFAULTS = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
MODELS: dict[str, type[Params]] = {}
for section, stage in {name: {"cnn": "train_cnn", "gan": "train_gan"}.get(name, name) for name in DEFAULTS}.items():
    named = f"{section.title().replace('_', '')}Params"  # evaluate_cnn: EvaluateCnnParams
    MODELS[section] = getattr(importlib.import_module(f"stages.{stage}"), named)
KEYS = st.text(max_size=8) | st.integers() | st.none() | st.booleans()
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates() | st.binary(max_size=4)
)
NUMBERS = st.builds(repr, st.floats() | st.integers(-(10**30), 10**30)) | st.sampled_from(
    ["1e-05", "2e-4", "1e999", "nan"]
)
VALUES = st.recursive(
    SCALARS | NUMBERS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def outcome(tmp_path: Path) -> Callable[[str, str | bytes], Params | None]:
    """The params that this text gives for a section; None when it is refused in one readable sentence."""

    def load(section: str, text: str | bytes) -> Params | None:
        path = tmp_path / "params.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            return load_params(MODELS[section], section, path)
        except UserError as error:
            sentence = str(error).removeprefix(str(path))
            assert 10 < len(sentence) < 5000
            assert sentence.isprintable()
            return None

    return load


def assert_sound(params: Params) -> None:
    for value in params.model_dump().values():
        assert not isinstance(value, float) or math.isfinite(value)
    assert type(params).model_validate(params.model_dump()) == params


@quick
@given(st.data(), st.sampled_from(sorted(MODELS)))
def test_any_value_for_any_key(outcome, data, section):
    key = data.draw(st.sampled_from(sorted(DEFAULTS[section])) | KEYS)
    value = data.draw(VALUES)
    params = outcome(section, yaml.safe_dump({section: DEFAULTS[section] | {key: value}}))
    if params is not None:
        assert key in DEFAULTS[section]
        assert_sound(params)


@quick
@given(
    VALUES | st.dictionaries(KEYS | st.sampled_from(sorted(MODELS)), VALUES, max_size=3),
    st.sampled_from(sorted(MODELS)),
)
def test_any_document(outcome, document, section):
    assert outcome(section, yaml.safe_dump(document)) is None


@settings(quick, max_examples=300)
@given(
    st.binary(max_size=60) | st.text("abc:[]{}&*!-?|>%@`'\"#\n\t ,1.", max_size=60),
    st.integers(0, 2000),
    st.integers(0, 8),
)
def test_any_damage_to_the_file(outcome, damage, start, length):
    data = yaml.safe_dump(DEFAULTS).encode()
    found = outcome(
        "gan", data[:start] + (damage if isinstance(damage, bytes) else damage.encode()) + data[start + length :]
    )
    if found is not None:
        assert_sound(found)


def test_the_defaults_are_params_of_every_stage(outcome):
    assert len(MODELS) == 8
    for section in MODELS:
        assert outcome(section, yaml.safe_dump(DEFAULTS)) is not None


def bounded(schema: Any) -> bool:
    """Whether a JSON schema of a param leaves nothing but null, a choice, or a value within limits."""
    if "anyOf" in schema:
        return all(bounded(each) for each in schema["anyOf"])
    if schema.get("type") in ("integer", "number") and "enum" not in schema:
        return {"minimum", "exclusiveMinimum"} & {*schema} != set()
    return schema.get("type") in ("null", "boolean", "array") or bool({"enum", "const", "pattern"} & {*schema})


@pytest.mark.parametrize("section", sorted(MODELS))
def test_every_param_has_bounds(section):
    properties = MODELS[section].model_json_schema()["properties"]
    assert {name for name, schema in properties.items() if not bounded(schema)} == set()
