"""Params are read as DVC and people write them, or one sentence names the key that is wrong."""

import re
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from stages.core.params import Params, load_params
from stages.running.terminal import UserError


class ToyParams(Params):
    lr: float = Field(gt=0, le=1)
    steps: int = Field(ge=1, le=1000)
    loss: Literal["bce", "hinge"]
    conditional: bool
    size: int | None


GOOD = "toy:\n  lr: 1.0e-3\n  steps: 10\n  loss: bce\n  conditional: true\n  size: null\n"


def sentence(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "params.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError) as error:
        load_params(ToyParams, "toy", path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))
    return str(error.value)


def load(tmp_path: Path, text: str) -> ToyParams:
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    return load_params(ToyParams, "toy", tmp_path / "params.yaml")


def test_reads_its_section_alone(tmp_path):
    params = load(tmp_path, GOOD + "other:\n  anything: [1, 2]\n")
    assert params == ToyParams(lr=1e-3, steps=10, loss="bce", conditional=True, size=None)


@pytest.mark.parametrize("written", ["1e-05", "'1e-05'", "1.0e-05", "0.00001", "1E-5"])
def test_numbers_in_any_notation(tmp_path, written):
    assert load(tmp_path, GOOD.replace("1.0e-3", written)).lr == 1e-5


def test_a_whole_number_may_be_written_as_a_decimal(tmp_path):
    assert load(tmp_path, GOOD.replace("10", "10.0")).steps == 10


@pytest.mark.parametrize(
    ("found", "replacement", "parts"),
    [
        ("lr:", "learning_rate:", ["`toy.learning_rate` is not a param", "lr, steps, loss, conditional, size"]),
        ("  steps: 10\n", "", ["`toy.steps` is missing"]),
        ("1.0e-3", "fast", ["`toy.lr` is 'fast'", "valid number"]),
        ("1.0e-3", "[0.1]", ["`toy.lr` is [0.1]", "valid number"]),
        ("1.0e-3", "null", ["`toy.lr` is None", "valid number"]),
        ("1.0e-3", "true", ["`toy.lr` is True", "got true/false"]),
        ("1.0e-3", "0", ["`toy.lr` is 0", "greater than 0"]),
        ("1.0e-3", "-2e-4", ["`toy.lr` is '-2e-4'", "greater than 0"]),
        ("1.0e-3", "1.5", ["`toy.lr` is 1.5", "less than or equal to 1"]),
        ("1.0e-3", ".nan", ["`toy.lr` is nan", "finite"]),
        ("1.0e-3", "nan", ["`toy.lr` is 'nan'", "finite"]),
        ("1.0e-3", "-.inf", ["`toy.lr` is -inf", "finite"]),
        ("1.0e-3", "1.0e+999", ["`toy.lr` is inf", "finite"]),
        ("10", "1.5", ["`toy.steps` is 1.5", "valid integer"]),
        ("10", "false", ["`toy.steps` is False", "got true/false"]),
        ("10", "1001", ["`toy.steps` is 1001", "less than or equal to 1000"]),
        ("bce", "wgan", ["`toy.loss` is 'wgan'", "'bce' or 'hinge'"]),
        ("true", "2", ["`toy.conditional` is 2", "valid boolean"]),
        ("null", "true", ["`toy.size` is True", "got true/false"]),
    ],
)
def test_one_sentence_names_the_key_the_value_and_what_is_allowed(tmp_path, found, replacement, parts):
    message = sentence(tmp_path, GOOD.replace(found, replacement))
    for part in parts:
        assert part in message


def test_all_mistakes_are_named_at_once(tmp_path):
    message = sentence(tmp_path, GOOD.replace("1.0e-3", "5").replace("bce", "wgan"))
    assert "`toy.lr`" in message
    assert "`toy.loss`" in message


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "toy:\n", "toy: 3\n", "toy: []\n", "other: {a: 1}\n", "- toy\n"]
)
def test_a_missing_or_empty_section(tmp_path, text):
    assert "has no section `toy:`" in sentence(tmp_path, text)


@pytest.mark.parametrize("text", ["toy: {", "\ttoy:", "toy: 2024-13-45", b"toy: \xff", b"toy: \0", "a: b: c"])
def test_not_yaml(tmp_path, text):
    assert "is not valid YAML" in sentence(tmp_path, text)


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(UserError, match="not found: run from the root of the project"):
        load_params(ToyParams, "toy", tmp_path / "params.yaml")


def test_values_cannot_be_reassigned(tmp_path):
    params = load(tmp_path, GOOD)
    with pytest.raises(ValidationError, match="frozen"):
        params.lr = 1.0


@given(st.floats() | st.integers() | st.text() | st.booleans() | st.none() | st.lists(st.integers(), max_size=2))
def test_any_value_is_a_number_in_range_or_a_validation_error(value):
    try:
        params = ToyParams(lr=value, steps=1, loss="bce", conditional=False, size=None)
    except ValidationError:
        return
    assert 0 < params.lr <= 1
    assert not isinstance(value, bool)


def test_every_number_in_params_yaml_carries_a_comment():
    lines = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r"  \w+: ", line) and "#" not in line] == []


class EvaluateGanParams(Params):
    images: int = Field(ge=10)
    cas_lr: float = Field(gt=0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("evaluate:\n  images: 50\n  resamples: 100\n", r"`evaluate.images` is now `evaluate_gan.images`: move them"),
        (
            "evaluate:\n  cas_lr: 0.1\n  images: 50\nevaluate_gan:\n  images: 60\n",
            r"`evaluate.images` is now `evaluate_gan.images`, `evaluate.cas_lr` is now `evaluate_gan.cas_lr`",
        ),
        (
            "evaluate_gan:\n  images: 50\n  cas_lr: 0.1\n  label_lr: 0.1\n",
            r"`evaluate_gan.label_lr` is not a param: use `evaluate_cnn.label_lr`",
        ),
    ],
)
def test_a_param_in_its_old_place_is_named_with_its_new_one(tmp_path, text, says):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=says):
        load_params(EvaluateGanParams, "evaluate_gan", tmp_path / "params.yaml")


def test_an_old_section_without_params_of_this_stage_does_not_stop_it(tmp_path):
    (tmp_path / "params.yaml").write_text("evaluate: {resamples: 100}\nevaluate_gan: {images: 50, cas_lr: 0.1}\n")
    assert load_params(EvaluateGanParams, "evaluate_gan", tmp_path / "params.yaml").images == 50
