"""ops.use.predict: a classifier whose answers are known, as a file and in a real registry."""

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ops.project.networks import CNN
from ops.use import predict
from stages.running.terminal import UserError
from stages.serving.classifier.bundle import Serving, write_serving
from stages.training.network_files import save_network
from stages.training.scores import softmax
from stages.training.tensorflow import keras
from tests.ops.use.test_generate import load_registered, register

CLASSES, NAME, FILE = ["red", "green", "blue"], CNN.model, CNN.file
TEMPERATURE, SCALE = 2.0, 8.0
# The bank holds the pure colours, and the distance of unit vectors to the nearest is at most sqrt(2 - 2 / sqrt(3)).
SERVING = Serving(TEMPERATURE, 0.5, 1, np.eye(3, dtype=np.float32))


def write_classifier(folder: Path, channels: int = 3) -> None:
    """A network of 8x8 px whose features are the mean of each channel, 0 to 1, and whose logits are 8 times these; in
    grey they are 8, 0 and -8 times the mean."""
    keras.utils.clear_session()
    images = keras.Input((8, 8, channels))
    means = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(images))
    features = keras.layers.Dense(channels, use_bias=False, name="features")
    logits = keras.layers.Dense(3, use_bias=False, name="logits")
    network = keras.Model(images, logits(features(means)))
    features.set_weights([np.eye(channels, dtype=np.float32)])
    logits.set_weights([SCALE * (np.eye(3, dtype=np.float32) if channels == 3 else np.array([[1.0, 0, -1]]))])
    folder.mkdir(parents=True)
    save_network(network, folder / "model.keras")
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    if channels == 3:
        write_serving(folder / "serving.npz", SERVING)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a colour classifier and a grey one."""
    folder = tmp_path_factory.mktemp("made")
    write_classifier(folder / "colour")
    write_classifier(folder / "grey", channels=1)
    return folder


@pytest.fixture
def run(project: Path, made_once: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, str]]]:
    """Runs the command in a project without a registry, where the colour classifier is; returns the rows."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(made_once / "colour", FILE.parent)

    def run(*words: str | Path, out: str = "predictions.csv") -> list[dict[str, str]]:
        monkeypatch.setattr(sys, "argv", ["predict", *map(str, words), "--out", out])
        predict.main()
        return read(out)

    return run


def read(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def paint(path: str | Path, colour, size: tuple[int, int] = (8, 8)) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    mode = "L" if isinstance(colour, int) else "RGBA" if len(colour) == 4 else "RGB"
    Image.new(mode, size, colour).save(path)


def probabilities(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[f"p_{name}"]) for name in CLASSES] for row in rows])


def test_files_and_folders_are_classified_in_order_and_rows_say_what_the_network_does(run, capsys):
    colours = {"a/x/1.png": (204, 51, 0), "a/2.JPG": (0, 0, 255), "z.png": (10, 200, 10), "a/b.webp": (255, 255, 255)}
    for path, colour in colours.items():
        paint(path, colour)
    for path in ("a/notes.txt", "a/.hidden.png", "a/Thumbs.db"):
        Path(path).write_text("no image")
    rows = run("z.png", "a")
    assert list(rows[0]) == [
        "path", "predicted", "confidence", "outlier_score", "abstain", "error", "p_red", "p_green", "p_blue"
    ]  # fmt: skip
    assert [row["path"] for row in rows] == ["z.png", "a/2.JPG", "a/b.webp", "a/x/1.png"]
    means = np.array([colours[row["path"]] for row in rows]) / 255
    np.testing.assert_allclose(probabilities(rows), softmax(SCALE * means / TEMPERATURE), atol=0.01)  # of a JPEG
    assert [row["predicted"] for row in rows if row["path"] != "a/b.webp"] == ["green", "blue", "red"]
    for row, answer in zip(rows, probabilities(rows), strict=True):
        assert float(row["confidence"]) == answer.max()
    distances = np.sqrt(2 - 2 * (means / np.linalg.norm(means, axis=1, keepdims=True)).max(axis=1))
    np.testing.assert_allclose([float(row["outlier_score"]) for row in rows], distances - 0.5, atol=0.02)
    assert [row["abstain"] for row in rows] == ["false", "false", "true", "false"]
    assert {row["error"] for row in rows} == {""}
    said = capsys.readouterr().out
    assert f"classifier: {FILE} (no version of {NAME} is champion or candidate in MLflow)" in said
    assert "images as 8x8 px, colour, pad" in said
    assert "4 images in predictions.csv, 1 abstained; 1 other files ignored" in said


def test_the_registered_model_answers_the_same(run, made_once, monkeypatch, tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), np.uint8)
    Path("random").mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image).save(f"random/{k}.png")
    tensor = {"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, 8, 8, 3]}}
    params = [{"name": "outlier_scores", "type": "boolean", "default": False, "shape": None}]
    signature = {"inputs": [tensor], "outputs": [tensor], "params": params}
    colour = made_once / "colour"
    files = {"model": FILE, "classes": colour / "classes.json", "serving": colour / "serving.npz"}
    register(tmp_path, CNN, files, signature, ("candidate",))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    FILE.unlink()
    rows = run("random")
    assert f"classifier: version 1 of {NAME} (candidate)" in capsys.readouterr().out
    registered = load_registered(f"models:/{NAME}@candidate")
    np.testing.assert_allclose(probabilities(rows), registered.predict(images), atol=2e-6)
    scores = registered.predict(images, params={"outlier_scores": True})
    np.testing.assert_allclose([float(row["outlier_score"]) for row in rows], scores, atol=2e-6)
    assert rows == run("random", "--model", f"models:/{NAME}/1") == run("random", "--model", colour / "model.keras")


def test_a_file_that_cannot_be_decoded_is_a_row_and_an_error_at_the_end(run, capsys):
    for k in range(5):
        paint(f"in/{k}.png", (255, 0, 0))
    Image.effect_noise((8, 8), 90).save("in/1.png")
    Path("in/1.png").write_bytes(Path("in/1.png").read_bytes()[:-50])
    Path("in/3.png").write_text("")
    Path("in/4.png").unlink()
    Path("in/4.png").symlink_to("nowhere.png")
    for batch in ("1", "2", "256"):
        with pytest.raises(
            UserError, match=r"3 of 5 images cannot be decoded, the others are in p.csv: in/1.png: damaged"
        ):
            run("in", "--batch-size", batch, out="p.csv")
        rows = read("p.csv")
        assert [row["path"] for row in rows] == [f"in/{k}.png" for k in range(5)]
        assert [row["predicted"] for row in rows] == ["red", "", "red", "", ""]
        assert [row["abstain"] for row in rows] == ["false", "true", "false", "true", "true"]
        assert rows[3]["error"] == "empty file"
        assert "broken link" in rows[4]["error"]
        assert rows[1]["p_red"] == rows[1]["confidence"] == rows[1]["outlier_score"] == ""


def test_abstains_below_the_confidence_asked_for(run):
    paint("in/sure.png", (255, 0, 0))
    paint("in/unsure.png", (255, 100, 0))
    sure, unsure = (float(row["confidence"]) for row in run("in"))
    between = (sure + unsure) / 2
    assert [row["abstain"] for row in run("in")] == ["false", "false"]
    assert [row["abstain"] for row in run("in", "--min-confidence", f"{between}")] == ["false", "true"]


def test_a_grey_network_sees_luma_and_without_serving_there_are_no_outlier_scores(run, made_once, capsys):
    paint("in/1.png", (200, 100, 50))
    paint("in/2.png", 100)
    rows = run("in", "--model", made_once / "grey" / "model.keras")
    luma = np.array([[0.299 * 200 + 0.587 * 100 + 0.114 * 50], [100]]) / 255
    expected = softmax(luma * SCALE * np.array([1.0, 0, -1]))
    np.testing.assert_allclose(probabilities(rows), expected, atol=0.01)
    assert [row["outlier_score"] for row in rows] == ["", ""]
    assert "grey, pad; no serving.npz, so without calibration and outlier scores" in capsys.readouterr().out


def test_images_are_brought_to_the_networks_size_as_ingest_does(run, project):
    Path("in").mkdir()
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 10:30, 0], wide[:, :10, 2], wide[:, 30:, 2] = 255, 255, 255  # red in the middle, blue at the sides
    Image.fromarray(wide).save("in/wide.png")
    paint("in/see-through.png", (255, 0, 0, 0))
    paint("in/grey.png", 90)
    grey, through, padded = probabilities(run("in"))
    np.testing.assert_allclose(grey, 1 / 3, atol=1e-6)
    np.testing.assert_allclose(through, 1 / 3, atol=1e-6)  # transparent pixels are black
    assert padded[0] == pytest.approx(padded[2], abs=0.02)  # half of the picture each
    cropped = probabilities(run("in/wide.png", "--fit", "crop"))[0]
    np.testing.assert_allclose(cropped, softmax(np.array([[SCALE / TEMPERATURE, 0, 0]]))[0], atol=0.03)
    params = project / "params.yaml"
    assert "fit: pad" in params.read_text()
    params.write_text(params.read_text().replace("fit: pad", "fit: crop"))
    np.testing.assert_array_equal(probabilities(run("in/wide.png"))[0], cropped)
    params.unlink()
    np.testing.assert_array_equal(probabilities(run("in/wide.png"))[0], padded)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere not found: expected image files, or folders"),
        (["empty"], "empty holds no images: expected PNG, JPEG"),
        (["in.png", "--model", "none.keras"], "none.keras not found: expected a .keras file"),
        (["in.png", "--model", "four/model.keras"], "distinguishes 3 classes, but its classes.json names 4"),
        (
            ["in.png", "--model", "models:/visionloop-cnn/champion"],
            "not a model address: expected models:/NAME@ALIAS",
        ),
    ],
)
def test_what_is_wrong_is_said_and_the_old_file_stays(run, words, said):
    paint("in.png", (0, 0, 255))
    (Path("empty") / "deeper").mkdir(parents=True)
    Path("empty/notes.txt").write_text("no image")
    shutil.copytree(FILE.parent, "four")
    Path("four/classes.json").write_text('["a", "b", "c", "d"]')
    Path("predictions.csv").write_text("old")
    before = sorted(Path.cwd().iterdir())
    with pytest.raises(UserError, match=said):
        run(*words)
    assert Path("predictions.csv").read_text() == "old"
    assert sorted(Path.cwd().iterdir()) == before


def test_options_out_of_range_and_an_output_that_is_a_folder(run, capsys):
    paint("in.png", (0, 0, 255))
    for words in (["--batch-size", "0"], ["--min-confidence", "1.5"], ["--min-confidence", "nan"]):
        with pytest.raises(SystemExit, match="2"):
            run("in.png", *words)
        assert "expected" in capsys.readouterr().err
    with pytest.raises(UserError, match="--out data is a folder: expected the name of a CSV file"):
        run("in.png", out="data")
    assert run("in.png", out="new/folder/p.csv")[0]["predicted"] == "blue"


def test_serving_is_found_where_the_pipeline_has_written_it(run, capsys):
    paint("in.png", (0, 0, 255))
    beside = run("in.png")
    CNN.evaluation.mkdir(parents=True)
    (FILE.parent / "serving.npz").rename(CNN.evaluation / "serving.npz")
    assert run("in.png") == beside
    assert "no serving.npz" not in capsys.readouterr().out


def test_a_generator_is_no_classifier(run, tmp_path):
    latents, labels = keras.Input([4]), keras.Input([], dtype="int32")
    save_network(keras.Model([latents, labels], keras.layers.Reshape([2, 2, 1])(latents)), tmp_path / "g.keras")
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    paint("in.png", (0, 0, 255))
    with pytest.raises(UserError, match=r"g.keras is not a classifier, which takes images"):
        run("in.png", "--model", "g.keras")
