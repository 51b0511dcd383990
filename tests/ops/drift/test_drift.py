"""ops.drift: false alarms and detection on real images, and the program with a real registry."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from bench.drift import Simulation, blur, invert, relight
from ops.drift import __main__ as drift
from ops.drift.profile import write_profile
from ops.project import registry
from stages import ingest
from stages.classifier.base.networks import build_classifier
from stages.running.terminal import UserError
from stages.training.network_files import save_network
from stages.training.tensorflow import seed_everything
from tests.conftest import ROOT, mlflow_client

FASHION = ROOT.parent / "shared" / "data" / "fashion_mnist.zip"
TRIES = 20
CHANGES = {  # of 28x28 images
    "inverted": invert,
    "blurred by a Gaussian of 0.5 px": blur(0.5),
    "contrast x 0.9, brightness + 10": relight(0.9, 10),
}


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """8,000 images: a third for the network, a third in each half."""
    if not FASHION.exists():
        pytest.skip(f"{FASHION} is not here")
    return Simulation(FASHION, tmp_path_factory.mktemp("fashion"), per_class=400, steps=150)


def check_simulation(simulation: Simulation, changed_tries: int) -> None:
    assert simulation.alarms("none", TRIES) <= 1
    for name, change in CHANGES.items():
        simulation.add(name, change)
        assert simulation.alarms(name, changed_tries) == changed_tries, name
        del simulation.known[name]
    assert simulation.alarms("none", changed_tries, keep=1 / 3) == changed_tries


def test_random_halves_raise_no_alarm_and_changed_ones_always_do(fashion):
    check_simulation(fashion, 10)


def test_a_hundred_strange_images_among_thousands_do_not_go_unnoticed(fashion):
    fashion.add("inverted", invert)
    fashion.add("relit", relight(0.8, 20))
    assert fashion.alarms("none", TRIES, images=100) <= 1
    assert fashion.alarms("inverted", 5, images=100) == 5
    assert fashion.alarms("relit", 5, images=100) == 5


@pytest.mark.long
def test_random_halves_of_all_images_raise_no_alarm_and_changed_ones_always_do(tmp_path):
    if not FASHION.exists():
        pytest.skip(f"{FASHION} is not here")
    check_simulation(Simulation(FASHION, tmp_path, per_class=None, steps=300), TRIES)


# ---------------------------------------------------------------- the program


def write_images(folder: Path, change: Callable[[np.ndarray], np.ndarray], per_class: int, seed: int) -> None:
    """12x12 px images of three classes, a bright stripe in each, under noise."""
    random = np.random.default_rng(seed)
    for label, name in enumerate(("ball", "box", "cup")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(per_class):
            image = random.integers(0, 60, (12, 12), dtype=np.uint8)
            image[:, 4 * label : 4 * label + 2] += np.uint8(180)
            Image.fromarray(change(image)).save(folder / name / f"{seed}-{k:03d}.png")


@pytest.fixture(scope="module")
def champion(tmp_path_factory):
    """A git repository with 180 images, an untrained reference network and a store with a champion of both."""
    root = tmp_path_factory.mktemp("champion")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("VISIONLOOP_TRACKING", "off")
        patch.delenv("CI", raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        subprocess.run(["git", "init", "--quiet"], check=True)
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, "commit", "--quiet", "--allow-empty", "-m", "Start"], check=True)
        (root / ".dvc").mkdir()
        shutil.copy(ROOT / "drift.yaml", root)
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["ingest"]["source"] = "shapes"
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        write_images(root / "data" / "raw" / "shapes", lambda image: image, 60, seed=0)
        ingest.main()
        (root / "data" / "reference").mkdir()
        seed_everything(0)
        save_network(build_classifier("compact", (12, 12, 1), 3, 8), root / "data" / "reference" / "model.keras")
        write_profile(root / "profile")
        client = mlflow_client(f"sqlite:///{root}/mlflow.db")
        with registry.new_run("promote", "0" * 40, {}) as run:
            run.artifact(root / "profile", "profile")
        client.create_registered_model("visionloop-cnn")
        tags = {"profile": f"runs:/{run.run_id}/profile"}
        client.create_model_version("visionloop-cnn", source=str(root), run_id=run.run_id, tags=tags)
        client.create_model_version("visionloop-cnn", source=str(root), run_id=run.run_id)
        client.set_registered_model_alias("visionloop-cnn", "champion", "1")
        yield SimpleNamespace(root=root, client=client)


def run(champion, monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Exit code and what was printed."""
    monkeypatch.chdir(champion.root)
    monkeypatch.setattr(sys, "argv", ["drift", *arguments])
    code = 0
    try:
        drift.main()
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().out


def newest_run(champion):
    experiment = champion.client.get_experiment_by_name("visionloop")
    return champion.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]


def test_the_champions_own_data_has_not_drifted(champion, monkeypatch, capsys):
    code, said = run(champion, monkeypatch, capsys)
    assert code == 0
    assert "No drift: the images in data/ingest are like the training images of version 1 of visionloop-cnn" in said
    assert "180 images, none of them new" in said
    found = newest_run(champion)
    assert found.data.tags["drift"] == "none"
    assert found.data.metrics["psi.all.class_prior"] == 0
    assert found.data.metrics["psi.all.brightness"] == pytest.approx(0, abs=1e-12)
    assert "distance.all" not in found.data.metrics  # no image is new, and known ones are not measured


def test_some_strange_images_among_known_ones_raise_the_alarm(champion, monkeypatch, capsys, tmp_path):
    data = tmp_path / "shapes"
    shutil.copytree(champion.root / "data" / "raw" / "shapes", data)
    write_images(data, lambda image: 255 - image, 20, seed=1)
    files = ["--html", str(tmp_path / "out" / "drift.html"), "--markdown", str(tmp_path / "out" / "drift.md")]
    code, said = run(champion, monkeypatch, capsys, str(data), *files)
    assert code == drift.DRIFT
    assert "240 images, 60 of them new" in said
    assert "Drift: the images in" in said
    alarms = [line.split()[:2] for line in said.splitlines() if "DRIFT" in line]
    assert ["new", "brightness"] in alarms
    assert ["new", "distance"] in alarms
    found = newest_run(champion)
    assert found.data.tags["drift"] == "alarm"
    assert found.data.tags["stage"] == "drift"
    assert len(found.data.tags["git_commit"]) == 40
    assert found.data.metrics["psi.new.brightness"] > 0.2
    assert found.data.metrics["p.new.distance"] < 0.01
    assert found.data.metrics["new_images"] == 60
    artifacts = {artifact.path for artifact in champion.client.list_artifacts(found.info.run_id)}
    assert artifacts == {"drift.html", "drift.md", "drift.yaml", "statistics.png", "unusual.png", "typical.png"}
    page, text = ((tmp_path / "out" / name).read_text() for name in ("drift.html", "drift.md"))
    assert page.count('<img src="data:image/png;base64,') == 3
    assert "http" not in page
    assert "ball/1-0" in page
    assert text.startswith("## Data drift\n\n**Drift: ")
    assert "| brightness, new | **drift** |" in text
    assert "](" not in text  # an issue could not show the pictures


def test_more_images_of_one_class_and_few_strange_ones_raise_none(champion, monkeypatch, capsys, tmp_path):
    data = tmp_path / "shapes"
    shutil.copytree(champion.root / "data" / "raw" / "shapes", data)
    write_images(tmp_path / "more", lambda image: image, 60, seed=2)
    for path in (tmp_path / "more" / "cup").iterdir():
        path.rename(data / "cup" / path.name)
    code, said = run(champion, monkeypatch, capsys, str(data))
    assert (code, "240 images, 60 of them new" in said) == (0, True)
    write_images(tmp_path / "strange", lambda image: 255 - image, 5, seed=3)
    few = tmp_path / "few"
    shutil.copytree(champion.root / "data" / "raw" / "shapes", few)
    shutil.copytree(tmp_path / "strange", few, dirs_exist_ok=True)
    code, said = run(champion, monkeypatch, capsys, str(few))
    assert code == 0
    assert "Fewer than 50 new images are shown, but" in " ".join(said.split())


def test_new_and_vanished_classes_and_broken_files_are_named(champion, monkeypatch, capsys, tmp_path):
    data = tmp_path / "other"
    write_images(data, lambda image: image, 40, seed=4)
    (data / "cup").rename(data / "$jug <b>")
    (data / "box" / "broken.png").write_bytes(b"no image")
    out = tmp_path / "drift.html"
    code, said = run(champion, monkeypatch, capsys, str(data), "--html", str(out))
    assert code == drift.DRIFT
    assert "images of $jug <b>" in said
    assert "no images of cup" in said
    assert "Files that cannot be decoded: 1." in " ".join(said.split())
    assert "$jug &lt;b&gt;" in out.read_text()
    assert "$jug <b>" not in out.read_text()


def test_images_of_another_size_are_asked_for_by_name(champion, monkeypatch, capsys):
    kept = champion.root / "data" / "kept"
    (champion.root / "data" / "ingest").rename(kept)
    try:
        params = (champion.root / "params.yaml").read_text()
        (champion.root / "params.yaml").write_text(params.replace("image_size: null", "image_size: 16"))
        monkeypatch.chdir(champion.root)
        ingest.main()
        with pytest.raises(UserError, match="16x16x1, the champion's are 12x12x1: name the original images"):
            run(champion, monkeypatch, capsys)
        assert run(champion, monkeypatch, capsys, "data/raw/shapes")[0] == 0
    finally:
        shutil.rmtree(champion.root / "data" / "ingest")
        kept.rename(champion.root / "data" / "ingest")
        (champion.root / "params.yaml").write_text(params)


def test_without_a_champion_or_its_profile_there_is_nothing_to_compare_with(champion, monkeypatch, capsys, tmp_path):
    def alias(number):
        champion.client.set_registered_model_alias("visionloop-cnn", "champion", number)

    alias("2")
    with pytest.raises(UserError, match="version 2 of visionloop-cnn, the champion, has no profile"):
        run(champion, monkeypatch, capsys)
    champion.client.delete_registered_model_alias("visionloop-cnn", "champion")
    with pytest.raises(UserError, match=r"has no champion to compare with: run `uv run visionloop promote`"):
        run(champion, monkeypatch, capsys)
    alias("1")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(UserError, match="in CI a local store is lost"):
        run(champion, monkeypatch, capsys)
    monkeypatch.delenv("CI")
    with pytest.raises(UserError, match="nothing not found: expected a folder or archive"):
        run(champion, monkeypatch, capsys, str(tmp_path / "nothing"))
    (tmp_path / "flat").mkdir()
    shutil.copy(champion.root / "data" / "raw" / "shapes" / "cup" / "0-000.png", tmp_path / "flat")
    with pytest.raises(UserError, match="no images in class folders"):
        run(champion, monkeypatch, capsys, str(tmp_path / "flat"))


def test_thresholds_are_checked(champion, monkeypatch, capsys):
    policy = champion.root / "drift.yaml"
    text = policy.read_text()
    try:
        policy.write_text(text.replace("false_alarms: 0.01 ", "false_alarms: 0.001 "))
        with pytest.raises(UserError, match="permutations must be at least 17000"):
            run(champion, monkeypatch, capsys)
        policy.write_text(text.replace("prior_psi: 0.1 ", "prior_psi: -1 "))
        with pytest.raises(UserError, match=r"drift\.yaml: `drift\.prior_psi` is -1"):
            run(champion, monkeypatch, capsys)
    finally:
        policy.write_text(text)
