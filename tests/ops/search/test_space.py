"""What ops.search may vary: the small language of its command line, and what it refuses at once."""

import re
import subprocess
import sys

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ops.search.space import current_values, parse_space, plain, suggest
from stages.running.terminal import UserError
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("gan.lr=log(1e-4,1e-2)", FloatDistribution(1e-4, 1e-2, log=True)),
        ("gan.steps=log(500,8000)", IntDistribution(500, 8000, log=True)),
        ("gan.discriminator_lr=log(1e-4, 1e-2)", FloatDistribution(1e-4, 1e-2, log=True)),
        ("cnn.backbone_size=log(32,256)", IntDistribution(32, 256, log=True)),
        ("cnn.mixup=float(0,0.4)", FloatDistribution(0, 0.4)),
        ("cnn.mixup=float(0,0.4,0.1)", FloatDistribution(0, 0.4, step=0.1)),
        ("cnn.epochs=int(2,12)", IntDistribution(2, 12)),
        ("cnn.width=int(8,64,8)", IntDistribution(8, 64, step=8)),
        ("cnn.width=32,48,64", CategoricalDistribution([32, 48, 64])),
        ("cnn.lr=1e-3,1e-2", CategoricalDistribution([1e-3, 1e-2])),
        ("cnn.schedule=one_cycle, cosine", CategoricalDistribution(["one_cycle", "cosine"])),
        ("gan.diff_augment=[],[translation,cutout]", CategoricalDistribution(["[]", "[translation,cutout]"])),
        ("gan.minibatch_std=true,false", CategoricalDistribution(["true", "false"])),
        ("gan.steps=500", CategoricalDistribution([500])),
    ],
)
def test_a_space_is_a_range_a_logarithmic_range_or_a_list(word, expected):
    assert parse_space([word]) == {word.split("=")[0]: expected}


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("gan.lr", "expected PARAM=SPACE"),
        ("gan.lr=", "expected PARAM=SPACE"),
        ("gan.lr=log(1e-2,1e-4)", "the lower end 0.01 is not below the upper end 0.0001"),
        ("gan.lr=log(0,1)", "a logarithmic scale starts above 0, not at 0"),
        ("gan.lr=log(1e-4,1e-2,1e-3)", r"expected log\(low,high\)"),
        ("gan.lr=float(1e-4)", r"expected float\(low,high\) or float\(low,high,step\)"),
        ("gan.lr=float(a,1)", "'a' is not a number"),
        ("gan.lr=float(nan,1)", "'nan' is not a number"),
        ("gan.lr=uniform(0,1)", r"expected int\(low,high\), float\(low,high\), log\(low,high\)"),
        ("cnn.width=int(8.5,64)", "expected whole numbers"),
        ("cnn.width=int(8,60,8)", "60 cannot be reached from 8 in steps of 8"),
        ("cnn.width=int(8,64,0)", "64 cannot be reached from 8 in steps of 0"),
        ("cnn.width=float(8,64)", r"cnn.width takes whole numbers: write int\(8,64\)"),
        ("cnn.width=8,,16", "a value is empty"),
        ("cnn.width=8,16,8", "a value is given twice"),
        ("gan.learning_rate=log(1e-4,1e-2)", "`gan.learning_rate` is not a param; `gan` takes arch, loss"),
        ("gam.lr=log(1e-4,1e-2)", "`gam` is not a section of params.yaml"),
        ("lr=log(1e-4,1e-2)", "`lr` is not a section of params.yaml"),
        ("reference.steps=int(1,9)", "reference.steps: changes no metric that a search can use"),
        ("evaluate_gan.seed=1,2", "evaluate_gan.seed: changes no metric that a search can use"),
    ],
)
def test_what_is_no_space_is_one_sentence(word, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_space([word])


def test_a_param_has_one_space():
    with pytest.raises(UserError, match=r"cnn\.lr already has a space"):
        parse_space(["cnn.lr=1e-3,1e-2", "cnn.lr=log(1e-3,1e-2)"])


def test_the_current_values_that_lie_in_the_space_are_found(project):
    space = parse_space(
        [
            "gan.lr=log(1e-4,1e-2)",
            "gan.width=32,48,64",
            "gan.steps=int(100,200)",
            "gan.discriminator_lr=null,1e-3",
            "gan.diff_augment=[translation],[]",
            "gan.average=float(0.5,0.9)",
            "cnn.mixup=float(0,0.4,0.1)",
            "cnn.depth=int(2,8,2)",
        ]
    )
    assert current_values(space) == {
        "gan.lr": 1.5e-3,
        "gan.width": 32,
        "gan.discriminator_lr": "null",
        "gan.diff_augment": "[]",
        "cnn.mixup": 0,
    }


def test_suggestions_lie_in_the_space_and_are_what_params_yaml_can_hold():
    space = parse_space(
        ["gan.lr=log(1e-4,1e-2)", "gan.width=8,16", "gan.steps=log(5,50)", "gan.diff_augment=[],[cutout]"]
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        values = suggest(study.ask(), space)
        assert 1e-4 <= values["gan.lr"] <= 1e-2
        assert values["gan.width"] in (8, 16)
        assert isinstance(values["gan.steps"], int)
        assert plain(values["gan.diff_augment"]) in ([], ["cutout"])


def test_it_is_quick_because_tensorflow_stays_out():
    slow = "{'tensorflow', 'keras', 'mlflow', 'great_expectations'}"
    code = f"import sys, ops.search.search; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_param_in_the_documentation_exists():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    named = re.findall(r"\b(\w+)\.(\w+)=", (ROOT / "docs/search.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert [f"{section}.{key}" for section, key in named if key not in params[section]] == []
