"""What ops.search may vary and aim at: the small language of its command line, and what it refuses at once."""

import json
import re
import subprocess
import sys

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ops.search_space import (
    METRICS,
    Objective,
    check_together,
    current_values,
    parse_objective,
    parse_space,
    plain,
    suggest,
)
from stages.lib.terminal import UserError
from tests.conftest import ROOT

FD = Objective("gan.val_fd", "minimise")
ACCURACY = Objective("cnn.val_accuracy", "maximise")


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
        ("cnn.width=int(8,60,8)", "steps of 8 do not lead from 8 to 60"),
        ("cnn.width=int(8,64,0)", "steps of 0 do not lead from 8 to 64"),
        ("cnn.width=float(8,64)", r"cnn.width takes whole numbers: int\(8,64\)"),
        ("cnn.width=8,,16", "a value between two commas is empty"),
        ("cnn.width=8,16,8", "a value is there twice"),
        ("gan.learning_rate=log(1e-4,1e-2)", "`gan.learning_rate` is not a param; `gan` takes arch, loss"),
        ("gam.lr=log(1e-4,1e-2)", "`gam` is no section of params.yaml"),
        ("lr=log(1e-4,1e-2)", "`lr` is no section of params.yaml"),
        ("reference.steps=int(1,9)", "reference.steps: changes no metric that can be searched"),
    ],
)
def test_what_is_no_space_is_one_sentence(word, sentence):
    with pytest.raises(UserError, match=sentence):
        parse_space([word])


def test_a_param_has_one_space():
    with pytest.raises(UserError, match=r"cnn\.lr has a space already"):
        parse_space(["cnn.lr=1e-3,1e-2", "cnn.lr=log(1e-3,1e-2)"])


def test_the_metrics_are_those_that_the_stages_write():
    written: dict[str, dict[str, float]] = {}
    for stage in ("train_cnn", "train_gan"):
        written |= json.loads((ROOT / f"data/{stage}/metrics.json").read_text())
    assert set(METRICS) == {f"{section}.{name}" for section, values in written.items() for name in values}


@pytest.mark.parametrize(
    ("name", "direction", "sentence"),
    [
        ("gan.fd", "minimise", "gan.fd is measured on the test images, which no choice may look at"),
        ("cnn.accuracy", "maximise", "cnn.accuracy is measured on the test images"),
        ("cnn.val_acc", "maximise", "cnn.val_acc is neither a metric of the validation images .cnn.val_accuracy"),
        ("val_fd", "minimise", "val_fd is neither"),
        ("cnn.val_accuracy", "minimise", "better when it is higher: --maximise cnn.val_accuracy"),
        ("gan.val_fd", "maximise", "better when it is lower: --minimise gan.val_fd"),
    ],
)
def test_what_is_no_objective_is_one_sentence(monkeypatch, name, direction, sentence):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=sentence):
        parse_objective(name, direction)


def test_an_objective_knows_its_stage_and_whether_it_is_measured_midway(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert parse_objective("gan.val_fd", "minimise").stage == "train_gan"
    assert parse_objective("gan.val_fd", "minimise").comes_while_training
    assert parse_objective("cnn.weights", "minimise").stage == "train_cnn"
    assert not parse_objective("cnn.weights", "minimise").comes_while_training
    assert parse_objective("gan.steps", "minimise").stage is None


@pytest.mark.parametrize(
    ("words", "objectives", "prune", "sentence"),
    [
        ([], [FD], None, "expected at least one -S"),
        (["gan.lr=1e-4,1e-3"], [], None, "expected at least one -S"),
        (["gan.lr=1e-4,1e-3"], [FD, FD], None, "an objective is there twice"),
        (["gan.lr=log(1e-4,2)"], [FD], None, r"`gan.lr` is 2.0: input should be less than or equal to 1 \(with gan.lr"),
        (["gan.width=int(2,64)"], [FD], None, r"`gan.width` is 2: input should be greater than or equal to 4"),
        (["gan.loss=hinge,hunge"], [FD], None, "`gan.loss` is 'hunge'"),
        (["gan.steps=500,many"], [FD], None, "`gan.steps` is 'many'"),
        (["gan.real_label=float(0.8,0.9)"], [FD], None, r"real_label is for the losses bce and lsgan"),
        (["gan.loss=bce,hinge", "gan.real_label=0.9,1"], [FD], None, r"with gan.loss=hinge, gan.real_label=0.9"),
        (["cnn.lr=1e-3,1e-2"], [FD], None, "cnn.lr changes none of the objectives"),
        (["ingest.val_fraction=0.1,0.2"], [ACCURACY], None, "decides which images the trials are measured on"),
        (["ingest.image_size=16,32"], [FD], None, "changes the ruler of gan.val_fd"),
        (["gan.evaluate_images=int(100,200)"], [FD], None, "changes the ruler of gan.val_fd"),
        (["gan.lr=1e-4,1e-3"], [FD, Objective("gan.steps", "minimise")], None, "the same in every trial"),
        (["gan.steps=500,900"], [Objective("gan.steps", "minimise")], None, "an objective beside a metric"),
        (["gan.loss=bce,hinge"], [FD, Objective("gan.loss", "minimise")], None, "not all of its values are numbers"),
        (["gan.lr=1e-4,1e-3"], [FD, ACCURACY], "median", "--prune wants a single objective"),
        (["cnn.lr=1e-4,1e-3"], [Objective("cnn.weights", "minimise")], "median", "measured while a network trains"),
    ],
)
def test_what_cannot_be_compared_or_is_not_allowed_is_one_sentence(project, words, objectives, prune, sentence):
    with pytest.raises(UserError, match=sentence):
        check_together(parse_space(words), objectives, prune)


@pytest.mark.parametrize(
    ("words", "objectives"),
    [
        (["gan.lr=log(1e-4,1e-2)", "gan.width=32,48,64"], [FD]),
        (["gan.loss=bce,lsgan", "gan.real_label=float(0.8,1)"], [FD]),
        (["gan.steps=log(500,8000)"], [FD, Objective("gan.steps", "minimise")]),
        (["ingest.image_size=null,16,32", "augment.rotation=float(0,30)", "cnn.test_views=none,shift"], [ACCURACY]),
        (["cnn.width=16,32", "gan.width=32,48"], [FD, ACCURACY]),
        (["gan.diff_augment=[],[translation],[translation,cutout]", "gan.discriminator_lr=null,1e-3"], [FD]),
        ([f"cnn.{name}=float(0,0.5)" for name in ("momentum", "weight_decay", "mixup", "cutmix")], [ACCURACY]),
    ],
)
def test_what_the_stages_take_is_accepted(project, words, objectives):
    space = parse_space(words)
    check_together(space, objectives, None)  # raises when anything is refused
    assert list(space) == [word.partition("=")[0] for word in words]


def test_many_ranges_are_checked_without_trying_all_combinations(project):
    names = ["width", "depth", "epochs", "batch_size", "frozen_epochs", "patience", "seed", "backbone_size"]
    numbers = ["lr", "beta_2", "momentum", "weight_decay", "label_smoothing", "mixup", "average"]
    words = [f"cnn.{name}=int(33,44)" for name in names] + [f"cnn.{name}=float(0.1,0.2)" for name in numbers]
    check_together(parse_space(words), [ACCURACY], None)
    with pytest.raises(UserError, match=r"`cnn\.mixup` is 20"):
        check_together(parse_space([*words[:-2], "cnn.mixup=float(0,20)", words[-1]]), [ACCURACY], None)


def test_a_wrong_params_file_is_told_of(project):
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("depth: 1 ", "depth: 0 "))
    with pytest.raises(UserError, match=r"params\.yaml: `cnn\.depth` is 0"):
        check_together(parse_space(["cnn.lr=1e-3,1e-2"]), [ACCURACY], None)


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
    code = f"import sys, ops.search; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_param_in_the_documentation_exists():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    named = re.findall(r"\b(\w+)\.(\w+)=", (ROOT / "docs/search.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert [f"{section}.{key}" for section, key in named if key not in params[section]] == []
