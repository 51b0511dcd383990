"""ops.use.generate, models and interpolation: generators in colour and grey, as files and in a real registry."""

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ops.project.networks import GAN
from ops.use import generate
from ops.use.generation import file_names
from ops.use.interpolation import spherical
from ops.use.models import Model
from stages.generator.networks import build_generator
from stages.ingestion.sources import open_source
from stages.running.terminal import UserError
from stages.serving.registry.network import Network
from stages.training.network_files import save_network
from stages.training.tensorflow import seed_everything
from tests.conftest import ROOT, mlflow_client, user_environment

CLASSES, NAME, FILE = ["bag", "T-shirt/top", "coat"], GAN.model, GAN.file


def write_generator(path: Path, *, channels: int = 3, conditional: bool = True, seed: int = 0) -> None:
    """An untrained generator of 12x12 px with its class names beside it."""
    seed_everything(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_network(build_generator("conv", (12, 12, channels), len(CLASSES), 8, 8, conditional), path)
    (path.parent / "classes.json").write_text(json.dumps(CLASSES))


def register(
    store: Path, network: Network, artifacts: dict[str, Path], signature: dict[str, Any], aliases: tuple[str, ...]
) -> None:
    """Adds a version as the pipeline does."""
    client, name = mlflow_client(f"sqlite:///{store}/mlflow.db"), network.model
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        import mlflow
        from mlflow.models import ModelSignature

        number = len(client.search_model_versions(f"name = '{name}'")) + 1
        folder = store / "saved" / f"{name}-{number}"
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(ROOT / network.serve),
            artifacts={key: str(path) for key, path in artifacts.items()},
            signature=ModelSignature.from_dict({side: json.dumps(specs) for side, specs in signature.items()}),
            pip_requirements=[],
        )
    if number == 1:
        client.create_registered_model(name)
    client.create_model_version(name, source=str(folder), tags={})
    for alias in aliases:
        client.set_registered_model_alias(name, alias, str(number))


def load_registered(uri: str) -> Any:
    """What a user of the registry loads."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        import mlflow

        return mlflow.pyfunc.load_model(uri)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which version 1 is the champion and version 2, another network, the candidate."""
    folder = tmp_path_factory.mktemp("store")
    tensor = {"dtype": "uint8", "shape": [-1, 12, 12, 3]}
    signature = {
        "inputs": [{"type": "string", "name": "class"}, {"type": "long", "name": "seed"}],
        "outputs": [{"type": "tensor", "tensor-spec": tensor}],
        "params": [{"name": "truncation", "type": "double", "default": 1.0, "shape": None}],
    }
    for seed, aliases in ((1, ("champion",)), (2, ("candidate",))):
        path = folder / str(seed) / "generator.keras"
        write_generator(path, seed=seed)
        files = {"generator": path, "classes": path.parent / "classes.json"}
        register(folder, GAN, files, signature, aliases)
    return folder


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a colour generator."""
    folder = tmp_path_factory.mktemp("made")
    write_generator(folder / FILE)
    return (folder / FILE).parent


@pytest.fixture
def run(tmp_path: Path, made_once: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Runs the command in a folder without a registry, in which the pipeline has made a colour generator; returns where
    its images are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(made_once, FILE.parent)

    def run(*words: str | Path, out: str = "out") -> Path:
        monkeypatch.setattr(sys, "argv", ["generate", "--out", out, *map(str, words)])
        generate.main()
        return Path(out)

    return run


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


# ---------------------------------------------------------------- images


def test_images_are_those_of_the_registered_model_whatever_the_count(store, run, monkeypatch, capsys):
    import pandas as pd

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    out = run("--class", "coat", "--count", "19", "--seed", "7")
    assert f"version 1 of {NAME} (champion)" in capsys.readouterr().out
    assert names(out) == [*(f"coat-{k:04d}.png" for k in range(19)), "grid.png"]
    made = np.stack([pixels(out / f"coat-{k:04d}.png") for k in range(19)])
    assert made.shape == (19, 12, 12, 3)
    assert len(np.unique(made.reshape(19, -1), axis=0)) == 19

    registered = load_registered(f"models:/{NAME}@champion")
    asked = pd.DataFrame({"class": ["coat"] * 19, "seed": np.arange(7, 26)})
    np.testing.assert_array_equal(made, registered.predict(asked))
    np.testing.assert_array_equal(made[[4]], registered.predict(asked[4:5]))
    less = registered.predict(asked[:3], params={"truncation": 0.5})
    run("--class", "coat", "--count", "3", "--seed", "7", "--truncation", "0.5", out="less")
    np.testing.assert_array_equal(np.stack([pixels(Path(f"less/coat-000{k}.png")) for k in range(3)]), less)

    one = run("--class", "coat", "--count", "1", "--seed", "9", out="one")
    np.testing.assert_array_equal(pixels(one / "coat-0000.png"), made[2])
    for asked_for in (f"models:/{NAME}/1", store / "1" / "generator.keras"):
        again = run("--class", "coat", "--count", "19", "--seed", "7", "--model", asked_for, "--force")
        assert [(again / name).read_bytes() for name in names(out)] == [
            (out / name).read_bytes() for name in names(out)
        ]
    other = run("--class", "coat", "--count", "1", "--seed", "9", "--model", f"models:/{NAME}@candidate", out="other")
    assert (pixels(other / "coat-0000.png") != made[2]).any()


def test_the_candidate_is_used_where_there_is_no_champion_and_else_the_file(store, run, monkeypatch, tmp_path, capsys):
    assert run("--class", "bag", "--count", "1") == Path("out")
    assert f"generator: {FILE} (no version of {NAME} is champion or candidate" in capsys.readouterr().out
    uri = f"sqlite:///{tmp_path}/copy.db"
    shutil.copy(store / "mlflow.db", tmp_path / "copy.db")
    client = mlflow_client(uri)
    client.delete_registered_model_alias(NAME, "champion")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    run("--class", "bag", "--count", "1", out="second")
    assert f"version 2 of {NAME} (candidate)" in capsys.readouterr().out
    client.delete_registered_model_alias(NAME, "candidate")
    FILE.unlink()
    with pytest.raises(UserError, match=f"and there is no {FILE}: run `dvc repro`"):
        run(out="none")
    with pytest.raises(UserError, match=f"models:/{NAME}@champion is not in MLflow: {NAME} has the versions 2, 1"):
        run("--model", f"models:/{NAME}@champion", out="none")
    with pytest.raises(UserError, match="models:/other/1 is not in MLflow: there is no model other"):
        run("--model", "models:/other/1", out="none")
    assert not Path("none").exists()


def test_without_a_class_there_are_images_of_all_as_a_data_set_wants_them(run):
    out = run("--count", "2")
    folders = {"bag": "bag", "T-shirt/top": "T-shirt_top", "coat": "coat"}
    assert names(out) == sorted(["grid.png", *(f"{f}/{f}-000{k}.png" for f in folders.values() for k in range(2))])
    with open_source(out) as source:
        assert source.classes == ["T-shirt_top", "bag", "coat"]
        assert len(source.items) == 6
    alone = run("--class", "T-shirt/top", "--count", "2", out="alone")
    assert names(alone) == ["T-shirt_top-0000.png", "T-shirt_top-0001.png", "grid.png"]
    for k in range(2):
        assert (alone / f"T-shirt_top-000{k}.png").read_bytes() == (
            out / f"T-shirt_top/T-shirt_top-000{k}.png"
        ).read_bytes()


def test_names_that_a_file_system_would_confuse_stay_apart():
    embedding = {"class_name": "Embedding"}
    model = Model("a generator", FILE, ["a_b-2", "a/b", "A:B", "..", "été"], None, [embedding])
    assert file_names(model) == ["a_b-2", "a_b", "A_B-2-2", "class", "été"]


def test_a_grid_of_all_classes_has_a_row_for_each_and_no_images_beside_it(run):
    out = run("--grid", "all", "--count", "5")
    assert names(out) == ["grid.png"]
    grid, tile = pixels(out / "grid.png"), 60 + 4  # 12 px, enlarged five times
    assert (grid.shape[0] // tile, grid.shape[1] // tile) == (3, 6)  # the names of the classes take a column
    singles = run("--class", "coat", "--count", "5", out="singles")
    shown = grid[-tile : -tile + 60, -tile : -tile + 60][::5, ::5]
    np.testing.assert_array_equal(shown, pixels(singles / "coat-0004.png"))


def test_a_grey_generator_makes_grey_files_and_one_without_classes_takes_no_class(run, tmp_path):
    write_generator(tmp_path / "plain" / "g.keras", channels=1, conditional=False)
    out = run("--model", "plain/g.keras", "--count", "2")
    assert names(out) == ["grid.png", "image-0000.png", "image-0001.png"]
    assert pixels(out / "image-0000.png").shape == (12, 12)
    with pytest.raises(UserError, match="trained without classes: leave out --class"):
        run("--model", "plain/g.keras", "--class", "bag", out="no")
    way = run("--model", "plain/g.keras", "--interpolate", "0", "1", "--steps", "3", out="way")
    np.testing.assert_array_equal(pixels(way / "image-002.png"), pixels(out / "image-0001.png"))


def test_truncation_1_is_off_and_0_leaves_one_image(run):
    off = run("--class", "bag", "--count", "3", out="off")
    one = run("--class", "bag", "--count", "3", "--truncation", "1", out="one")
    assert [(one / name).read_bytes() for name in names(one)] == [(off / name).read_bytes() for name in names(off)]
    zero = run("--class", "bag", "--count", "3", "--truncation", "0", out="zero")
    assert len({(zero / f"bag-000{k}.png").read_bytes() for k in range(3)}) == 1
    half = run("--class", "bag", "--count", "3", "--truncation", "0.5", out="half")

    def spread(folder):
        return np.stack([pixels(folder / f"bag-000{k}.png") for k in range(3)]).std(axis=0).mean()

    assert 0 < spread(half) < spread(off)


# ---------------------------------------------------------------- interpolation


def test_between_classes_the_ends_are_the_single_images_and_the_network_stays_as_it_was(run):
    out = run("--interpolate", "bag", "coat", "--count", "2", "--steps", "5", "--seed", "3")
    assert names(out) == sorted(
        ["grid.png", *(f"bag-coat-{row:04d}-{k:03d}.png" for row in range(2) for k in range(5))]
    )
    singles = run("--count", "2", "--seed", "3", out="singles")
    for row in range(2):
        way = np.stack([pixels(out / f"bag-coat-{row:04d}-{k:03d}.png") for k in range(5)]).astype(int)
        np.testing.assert_array_equal(way[0], pixels(singles / f"bag/bag-{row:04d}.png"))
        np.testing.assert_array_equal(way[4], pixels(singles / f"coat/coat-{row:04d}.png"))
        steps = np.abs(np.diff(way, axis=0)).mean(axis=(1, 2, 3))
        assert steps.max() < 0.6 * np.abs(way[4] - way[0]).mean()


def test_between_seeds_the_ends_are_the_single_images(run):
    out = run("--class", "bag", "coat", "--interpolate", "4", "6", "--steps", "4")
    singles = run("--class", "bag", "coat", "--count", "3", "--seed", "4", out="singles")
    for name in ("bag", "coat"):
        np.testing.assert_array_equal(pixels(out / f"{name}-000.png"), pixels(singles / f"{name}/{name}-0000.png"))
        np.testing.assert_array_equal(pixels(out / f"{name}-003.png"), pixels(singles / f"{name}/{name}-0002.png"))


def test_spherical_interpolation_keeps_length_and_turns_evenly():
    first, last = np.array([3, 0, 0], np.float32), np.array([0, 3, 0], np.float32)
    way = spherical(first, last, 4)
    angles = np.radians([0, 30, 60, 90])
    np.testing.assert_allclose(way, 3 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1), atol=1e-6)
    first, last = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    way = spherical(first, last, 9)
    np.testing.assert_array_equal(way[[0, -1]], [first, last])
    lengths = np.linalg.norm(way, axis=1)
    assert lengths.min() > 0.98 * min(lengths[0], lengths[-1])
    np.testing.assert_allclose(spherical(first, 2 * first, 3)[1], 1.5 * first, rtol=1e-6)
    assert np.isfinite(spherical(first, -first, 3)).all()
    assert np.isfinite(spherical(first, 0 * first, 3)).all()


# ---------------------------------------------------------------- what is in the way


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--class", "bag", "bga"], r"no such class: bga; the classes of .* are bag, T-shirt/top, coat"),
        (["--interpolate", "bag", "bga"], r"no such class: bga"),
        (["--interpolate", "bag", "bag"], "expected two classes"),
        (
            ["--interpolate", "bag", "coat", "--class", "bag"],
            "with --class A and B are seeds, 0 or more, but 'bag' is not",
        ),
        (["--model", "none.keras"], r"none.keras not found: expected a .keras file, models:/visionloop-gan@ALIAS"),
        (["--model", "models:/visionloop-gan"], "is not a model address: expected models:/NAME@ALIAS"),
        (["--model", "models:/visionloop-gan/1"], "no MLflow store at sqlite:"),
        (["--model", "text.keras"], "text.keras is damaged or not a network saved by Keras"),
        (["--model", "damaged.keras"], "is damaged: its part model.weights.h5 has changed"),
        (["--model", "fewer/generator.keras"], "was trained on 3 classes, but its classes.json names 2"),
        (["--model", "alone/a/generator.keras"], "there is no classes.json next to alone/a/generator.keras"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(run, tmp_path, words, said):
    Path("text.keras").write_text("no network")
    content = bytearray(FILE.read_bytes())
    content[len(content) // 2] ^= 1
    Path("damaged.keras").write_bytes(content)
    for folder in ("fewer", "alone/a"):
        Path(folder).mkdir(parents=True)
        shutil.copy(FILE, folder)
    Path("fewer/classes.json").write_text('["bag", "coat"]')
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=said):
        run(*words)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--count", "0"], "--count 0: expected 1 to 1000000"),
        (["--seed", "-1"], "--seed -1: expected 0 to"),
        (["--truncation", "1.5"], "--truncation 1.5: expected 0 to 1"),
        (["--truncation", "nan"], "--truncation nan: expected 0 to 1"),
        (["--steps", "3"], "--steps requires --interpolate"),
        (["--grid", "all", "--class", "bag"], "leave out --class"),
        (["--grid", "all", "--interpolate", "bag", "coat"], "not allowed with"),
        (["--interpolate", "1", "2", "--class", "bag", "--count", "2"], "leave out --count"),
    ],
)
def test_options_that_make_no_sense_are_refused(run, capsys, words, said):
    with pytest.raises(SystemExit, match="2"):
        run(*words)
    assert said in capsys.readouterr().err


def test_a_classifier_is_no_generator(run, tmp_path):
    from stages.classifier.base.networks import build_classifier

    save_network(build_classifier("article", (12, 12, 1), 3, 4), tmp_path / "model.keras")
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    with pytest.raises(UserError, match=r"model.keras is not a generator"):
        run("--model", "model.keras")


def test_files_that_are_there_stay_unless_they_are_to_be_overwritten(run, monkeypatch):
    out = Path("out")
    out.mkdir()
    run("--class", "bag", "--count", "2")  # an empty folder is no obstacle
    (out / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UserError, match="holds files: name another folder, or overwrite files of equal names"):
        run("--class", "bag", "--count", "1", "--seed", "5")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    run("--class", "bag", "--count", "1", "--seed", "5", "--force")
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"bag-0000.png", "grid.png"}
    (out / "coat").write_text("where a folder would have to be")
    with pytest.raises(UserError, match="out cannot be written: File exists"):
        run("--class", "coat", "bag", "--count", "1", "--force")
    assert not (out / ".new").exists()
    for name in ("grid.png", "out/notes.txt"):
        with pytest.raises(UserError, match="expected a folder for grid"):
            run(out=name)


def test_an_unknown_class_is_told_before_tensorflow_and_mlflow_are_loaded(made_once, tmp_path):
    shutil.copytree(made_once, (tmp_path / FILE).parent)
    program = (
        "import sys; from ops.use import generate; from stages.running.terminal import run_stage\n"
        "try: run_stage(generate.main)\n"
        "finally: print([name for name in ('tensorflow', 'keras', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--class", "bga", "--out", "out"],
        cwd=tmp_path,
        env=user_environment() | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.strip()) == (1, "[]")
    assert done.stderr.startswith("error: no such class: bga; ")
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]
