"""stages.train_gan: its switches, and what it writes and says."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import train_gan
from stages.classifier.base.networks import build_classifier
from stages.core.params import load_params
from stages.generator.training import build_network, build_step
from stages.generator.validation import GeneratorHistory, warn_once
from stages.running.terminal import UserError
from stages.running.tracking.record import Run
from stages.train_gan import GanParams
from stages.training.network_files import save_network
from stages.training.tensorflow import compute_dtype, keras
from tests.conftest import ROOT, tiny_ingest

DEFAULTS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["gan"]
OFF: dict[str, Any] = {
    "spectral_norm": "auto",
    "minibatch_std": False,
    "discriminator_lr": None,
    "discriminator_steps": 1,
    "penalty": None,
    "feature_matching": 0,
    "real_label": 1,
    "diff_augment": [],
    "ada_target": None,
}


def params(**changes) -> GanParams:
    return GanParams(**(DEFAULTS | {"width": 4} | changes))


def set_params(**changes) -> None:
    document = yaml.safe_load(Path("params.yaml").read_text())
    document["gan"] |= changes
    Path("params.yaml").write_text(yaml.safe_dump(document))


def test_what_is_optional_is_off_by_default():
    assert {name: DEFAULTS[name] for name in OFF} == OFF


def test_every_switch_reaches_the_step():
    plain = build_step(params(), (16, 16, 1), 3)
    assert (plain.penalty, plain.lrs, plain.augment.kinds, plain.augment.variables) == (0.3, (1.5e-3, 1.5e-3), (), [])
    assert plain.discriminator.dtype_policy.name == compute_dtype("auto")
    names = {layer.name for layer in plain.discriminator.layers}
    full = build_step(
        params(
            loss="lsgan",
            spectral_norm="always",
            minibatch_std=True,
            discriminator_lr=1e-3,
            discriminator_steps=3,
            penalty=0.5,
            penalty_every=2,
            clip=0.05,
            feature_matching=2,
            real_label=0.9,
            diff_augment=["translation", "cutout"],
            ada_target=0.8,
            precision="float32",
        ),
        (16, 16, 1),
        3,
    )
    assert (full.loss, full.penalty, full.penalty_every, full.clip) == ("lsgan", 0.5, 2, 0.05)
    assert (full.lrs, full.discriminator_steps) == ((1.5e-3, 1e-3), 3)
    assert (full.feature_matching, full.real_label) == (2, 0.9)
    assert (full.augment.kinds, full.augment.target) == (("translation", "cutout"), 0.8)
    assert full.discriminator.dtype_policy.name == "float32"
    assert {layer.name for layer in full.discriminator.layers} - names >= {"minibatch_std"}
    assert any(isinstance(layer, keras.layers.SpectralNormalization) for layer in full.discriminator.layers)


@pytest.mark.parametrize(
    ("changes", "classes", "expected"),
    [
        ({}, 3, 0.1),
        ({"arch": "dcgan", "mismatch": 0.5}, 3, 0.5),
        ({"mismatch": 0}, 3, 0),
        ({"conditional": False}, 3, 0),
        ({"arch": "article"}, 3, 0),
        ({}, 1, 0),
    ],
)
def test_labels_are_told_from_wrong_ones_where_there_are_such(changes, classes, expected):
    step = build_step(params(**changes), (16, 16, 1), classes)
    assert (step.mismatch, step.classes) == (expected, classes)


@pytest.mark.parametrize(
    ("switch", "loss", "expected"),
    [
        ("auto", "relativistic", False),
        ("auto", "hinge", True),
        ("auto", "lsgan", True),
        ("never", "hinge", False),
        ("always", "bce", True),
    ],
)
def test_spectral_norm_goes_with_hinge_and_lsgan(switch, loss, expected):
    layers = build_step(params(spectral_norm=switch, loss=loss), (16, 16, 1), 3).discriminator.layers
    assert any(isinstance(layer, keras.layers.SpectralNormalization) for layer in layers) == expected


@pytest.mark.parametrize(("loss", "has"), [("bce", True), ("relativistic", True), ("wgan", False), ("wgan-gp", False)])
def test_a_dcgan_s_critic_has_no_batch_norm(loss, has):
    discriminator = build_step(params(arch="dcgan", loss=loss), (16, 16, 1), 3).discriminator
    assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in discriminator.layers) == has


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"loss": "hinge", "real_label": 0.9},
            "`gan`: real_label works with the losses bce and lsgan only: set it to 1 for hinge",
        ),
        (
            {"ada_target": 0.8},
            "`gan`: ada_target controls diff_augment, which is empty: fill it, or set ada_target to null",
        ),
        ({"loss": "wgan_gp"}, "`gan.loss` is 'wgan_gp': input should be 'bce', 'lsgan', 'wgan', 'wgan-gp', 'hinge' or"),
        ({"diff_augment": ["color"]}, "`gan.diff_augment.0` is 'color': input should be 'colour', 'translation' or"),
        ({"discriminator_steps": 0}, "`gan.discriminator_steps` is 0: input should be greater than or equal to 1"),
        ({"clip": 0}, "`gan.clip` is 0: input should be greater than 0"),
    ],
)
def test_params_that_do_not_fit_are_named(project, changes, message):
    set_params(**changes)
    with pytest.raises(UserError) as error:
        load_params(GanParams, "gan")
    assert message in str(error.value)


@pytest.fixture
def ready(project):
    """A project up to train_gan, with a reference that has learnt nothing."""
    tiny_ingest(project, train=20, val=6, size=16)
    (project / "data/reference").mkdir()
    save_network(build_classifier("compact", (16, 16, 1), 3, 8), project / "data/reference/model.keras")
    (project / "data/validate").mkdir()
    (project / "data/validate/passed").write_text("tiny\n")
    for folder in ("stages", "dvc.yaml", "versions.yaml"):
        (project / folder).symlink_to(ROOT / folder)
    set_params(width=4, latent_dim=6, steps=12, batch_size=10, evaluate_every=4, precision="float32")
    return project


@pytest.mark.long
def test_everything_at_once_trains_and_gives_the_same_bytes_twice(ready, capsys):
    set_params(
        loss="bce",
        arch="article",
        spectral_norm="always",
        minibatch_std=True,
        discriminator_steps=2,
        feature_matching=0.1,
        real_label=0.9,
        diff_augment=["colour", "translation", "cutout"],
        ada_target=0.6,
    )
    written = []
    for _ in range(2):
        keras.utils.clear_session()  # which numbers the layers from 1 again, as in a process of its own
        train_gan.main()
        written.append({p: p.read_bytes() for p in Path("data/train_gan").rglob("*") if p.is_file()})
    assert written[0] == written[1]
    header, *rows = Path("data/train_gan/history.csv").read_text().splitlines()
    assert header == "step,d_loss,g_loss,d_real,d_fake,val_fd,val_diversity,val_label_accuracy"
    assert [row.split(",")[0] for row in rows] == ["4", "8", "12"]
    metrics = json.loads(Path("data/train_gan/metrics.json").read_text())["gan"]
    assert metrics.keys() == {"val_fd", "val_diversity", "val_label_accuracy", "best_step", "weights"}
    assert "generator: Frechet distance " in capsys.readouterr().out


def test_the_generator_is_the_one_that_the_params_describe(ready):
    set_params(arch="dcgan", conditional=False)
    train_gan.main()
    network = keras.saving.load_model("data/train_gan/generator.keras", compile=False, safe_mode=True)
    expected = build_network(params(arch="dcgan", conditional=False, latent_dim=6), (16, 16, 1), 3)
    assert [layer.name.rstrip("_0123456789") for layer in network.layers] == [
        layer.name.rstrip("_0123456789") for layer in expected.layers
    ]


def test_it_warns_once_also_over_an_interruption(tmp_path, capsys):
    row = {"val_fd": 10.0, "val_diversity": 1.0}
    history = GeneratorHistory([row | {"step": 10}])
    run = Run(tmp_path / "outbox" / "run")
    warn_once(history, 100, run)
    assert (capsys.readouterr().out, history.warned) == ("", False)
    history.rows += [row | {"step": 20, "val_fd": 50.0}]
    warn_once(history, 100, run)
    said = capsys.readouterr().out
    assert said.startswith("  warning: the generator gets worse (Frechet distance 50 at step 20, 10 at step 10): try ")
    assert said.count("\n") == 1
    (event,) = map(json.loads, (tmp_path / "outbox/run/events.jsonl").read_text().splitlines())
    assert (event["kind"], event["values"]) == ("tags", {"warning": said.removeprefix("  warning: ").strip()})
    resumed = GeneratorHistory(**json.loads(json.dumps(vars(history))))
    resumed.rows += [row | {"step": 30, "val_fd": 90.0}]
    warn_once(resumed, 100, run)
    assert capsys.readouterr().out == ""
    assert len((tmp_path / "outbox/run/events.jsonl").read_text().splitlines()) == 1
    run.events.close()


def test_a_generator_that_never_comes_to_vary_is_warned_of(ready, capsys):
    set_params(arch="dcgan", lr=1e-9)  # which starts with equal images
    train_gan.main()
    said = capsys.readouterr().out
    assert said.count("warning: the generator makes nearly the same image over and over (at step 8 ") == 1
    assert said.count("warning: ") == 1
