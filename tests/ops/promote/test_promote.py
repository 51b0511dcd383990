"""ops.promote in a git and DVC repository with networks whose quality is known, and MLflow's default store.

The tests of a module tell one story, in order: each starts from the registry that the one before left.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from ops.project import registry
from ops.project.networks import CNN, GAN, NETWORKS
from ops.project.registry_lock import LOCK, promotion_lock
from ops.promote import __main__ as promote
from ops.promote.comparison import ROLLED_BACK, forecast
from stages.running.terminal import UserError
from stages.training.network_files import save_network
from stages.training.tensorflow import keras
from tests.conftest import ROOT, end_sender, tiny_ingest, user_environment

CLASSES, SIZE = ("ball", "box", "cup"), 12
OUTPUTS = tuple(
    str(path)
    for path in (
        *(network.file for network in NETWORKS.values()),
        Path("data/reference/model.keras"),
        *(network.metrics for network in NETWORKS.values()),
        Path("data/validate/passed"),
    )
)
METRICS = {
    "cnn": ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "nll", "ece"),
    "gan": (
        "fd",
        "fd_floor",
        "kid",
        "kid_error",
        "precision",
        "recall",
        "label_accuracy",
        "label_accuracy_real",
        "cas",
    ),
}


def stripes() -> np.ndarray:
    """Where the classes of `tiny_ingest` are bright, 0 or 1 [classes, pixels]."""
    masks = np.zeros((len(CLASSES), SIZE, SIZE), np.float32)
    for k, mask in enumerate(masks):
        mask[:, k * SIZE // len(CLASSES) : k * SIZE // len(CLASSES) + 2] = 1
    return masks.reshape(len(CLASSES), -1)


def write_classifier(path: Path, blind_to: int | None = None) -> None:
    """A network that recognises the stripes, but for one class, of which it has no idea; with a layer `features` of the
    mean brightness at the stripes."""
    keras.utils.clear_session()  # which numbers the layers: the same network has the same bytes
    masks = stripes() / stripes().sum(axis=1, keepdims=True)
    scale = np.eye(len(CLASSES), dtype=np.float32) * 8
    if blind_to is not None:
        scale[:, blind_to] = 0
    images = keras.Input((SIZE, SIZE, 1))
    features = keras.layers.Dense(len(CLASSES), use_bias=False, name="features")
    logits = keras.layers.Dense(len(CLASSES), use_bias=False, name="logits")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    network = keras.Model(images, logits(features(flat)))
    features.set_weights([masks.T])
    logits.set_weights([scale])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_network(network, path)


def write_generator(path: Path, brightness: float = 0.7) -> None:
    """A generator of the stripes under noise; real ones have a brightness of about 0.7."""
    keras.utils.clear_session()
    latents, labels = keras.Input((8,)), keras.Input((), dtype="int32")
    embedding = keras.layers.Embedding(len(CLASSES), SIZE * SIZE)
    noise = keras.layers.Dense(SIZE * SIZE, use_bias=False)
    pixels = keras.layers.Add()([embedding(labels), noise(latents)])
    network = keras.Model([latents, labels], keras.layers.Reshape((SIZE, SIZE, 1))(pixels))
    embedding.set_weights([0.24 + stripes() * 2 * brightness - 1])
    noise.set_weights([np.random.default_rng(0).standard_normal((8, SIZE * SIZE)).astype(np.float32) * 0.04])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_network(network, path)


def run(project: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=project, env=user_environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{command[:3]}: {done.stdout}{done.stderr}"
    return done.stdout


def commit(project: Path, message: str) -> None:
    """Writes dvc.lock for the files that are there, as `dvc commit` would, and commits all that git has."""
    outputs = [
        {"path": path, "hash": "md5", "md5": hashlib.md5(content).hexdigest(), "size": len(content)}
        for path in sorted(OUTPUTS)
        if (content := (project / path).read_bytes())
    ]
    lock = {"schema": "2.0", "stages": {"all": {"cmd": "true", "outs": outputs}}}
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--allow-empty", "--message", message)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("promote")
    run(folder, "git", "init", "--quiet", "--initial-branch", "main")
    run(folder, "git", "config", "user.name", "Tester")
    run(folder, "git", "config", "user.email", "tester@example.org")
    run(folder, "dvc", "init", "--quiet")
    for name in (
        "promotion.yaml",
        "params.yaml",
        "stages/serving/classifier/model.py",
        "stages/serving/generator/model.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    (folder / ".gitignore").write_text("/data/\n/mlflow.db*\n/mlartifacts/\n/.visionloop/\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"all": {"cmd": "true", "outs": list(OUTPUTS)}}}))
    tiny_ingest(folder, classes=CLASSES, train=30, val=10, test=60, size=SIZE)
    write_classifier(folder / CNN.file, blind_to=2)
    write_classifier(folder / "data/reference/model.keras")
    write_generator(folder / GAN.file)
    for section, names in METRICS.items():
        path = folder / NETWORKS[section].metrics
        path.parent.mkdir()
        path.write_text(json.dumps({section: dict.fromkeys(names, 0.5)}))
    (folder / "data/validate").mkdir()
    (folder / "data/validate/passed").write_text("f" * 64)
    commit(folder, "a classifier that is blind to cups")
    yield folder
    end_sender(folder)


@pytest.fixture(autouse=True)
def at_the_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "VISIONLOOP_TRACKING", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(project)


def promotion(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `python -m ops promote ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["promote", *arguments])
    try:
        promote.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def champions() -> list[int | None]:
    found = [registry.champion(model) for model in (CNN.model, GAN.model)]
    return [version.number if version else None for version in found]


def tags(model: str, number: int) -> dict[str, str]:
    return dict(next(version.tags for version in registry.versions(model) if version.number == number))


def runs_from_cache() -> list[str]:
    """The stages whose runs registered a network from its files, sorted."""
    experiment = registry.client().get_experiment_by_name("visionloop")
    found = registry.client().search_runs([experiment.experiment_id], "tags.from_cache = 'true'")
    return sorted(run.data.tags["stage"] for run in found)


def snapshot() -> list[object]:
    """All that the registry says."""
    asked = registry.client()
    models = [(model.name, dict(model.tags), dict(model.aliases)) for model in asked.search_registered_models()]
    return [models, registry.versions(CNN.model), registry.versions(GAN.model)]


# ---------------------------------------------------------------- the story


def test_without_a_registry_there_is_nothing_to_forecast(monkeypatch):
    with pytest.raises(UserError, match="no MLflow store"):
        promotion(monkeypatch, "--dry-run")
    with pytest.raises(UserError, match="no MLflow store"):
        forecast()
    assert not Path("mlflow.db").exists()


def test_first_models_are_registered_from_the_files_and_promoted_by_the_floors(monkeypatch, capsys, tmp_path):
    assert promotion(monkeypatch, "--markdown", str(tmp_path / "comment.md")) == 0
    said = capsys.readouterr().out
    assert "visionloop-cnn: version 1, no champion yet" in said
    assert said.count("Promoted: it is the first model, and above every floor.") == 2
    assert max(map(len, said.splitlines())) <= 100
    assert champions() == [1, 1]
    found = tags(CNN.model, 1)
    assert found["promotion.decision"] == "promoted"
    assert found["promotion.against"] == "none"
    assert found["promotion.commit"] == run(Path.cwd(), "git", "rev-parse", "HEAD").strip()
    assert registry.client().get_model_version_by_alias(CNN.model, "candidate").version == 1
    assert runs_from_cache() == ["evaluate_cnn", "evaluate_gan"]
    (line,) = registry.history(CNN.model)
    assert line.startswith("version 1 promoted 20")
    assert line.endswith("the first")
    profile = registry.download(found["profile"], tmp_path / "profile")
    assert (profile / "profile.json").exists()
    text = (tmp_path / "comment.md").read_text()
    assert text.startswith("## Promotion\n\n### visionloop-cnn: version 1, no champion yet\n")
    recorded = registry.client().get_run(found["promotion.run"])
    assert recorded.info.run_name == f"promote {found['promotion.commit'][:7]}"
    assert recorded.data.metrics["cnn.accuracy.candidate"] == pytest.approx(2 / 3, abs=0.05)
    assert (registry.download(f"runs:/{recorded.info.run_id}/promotion.md", tmp_path)).read_text() == text


def test_the_champion_is_not_compared_again(monkeypatch, capsys):
    before = snapshot()
    assert promotion(monkeypatch) == 0
    assert capsys.readouterr().out.count("version 1 is already the champion") == 2
    assert snapshot() == before


def test_a_dry_run_of_a_better_one_says_so_and_changes_nothing(project, monkeypatch, capsys):
    write_classifier(project / CNN.file)
    commit(project, "a classifier that sees cups")
    before = snapshot()
    assert promotion(monkeypatch, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "visionloop-cnn: not registered yet, against the champion, version 1" in said
    assert "Would be promoted: accuracy is better (+0.3" in said
    cnn, gan = forecast()
    assert (cnn.promote, gan.promote) == (True, False)
    assert gan.reason == "version 1 is already the champion"
    assert snapshot() == before


def test_a_promotion_that_breaks_off_leaves_the_champion_and_the_next_one_completes_it(monkeypatch):
    client = type(registry.client())

    def dies(*_: object) -> None:
        raise ConnectionResetError("the machine went away")

    with monkeypatch.context() as patch:
        move = client.set_registered_model_alias
        patch.setattr(client, "set_registered_model_alias", lambda *a: dies() if "champion" in a else move(*a))
        with pytest.raises(ConnectionResetError):
            promotion(monkeypatch, "--model", "cnn")
    assert champions() == [1, 1]
    assert len(registry.history(CNN.model)) == 1
    with monkeypatch.context() as patch:
        patch.setattr(client, "set_registered_model_tag", dies)  # after the alias, before the history
        with pytest.raises(ConnectionResetError):
            promotion(monkeypatch, "--model", "cnn")
    assert champions() == [2, 1]
    assert len(registry.history(CNN.model)) == 1
    assert promotion(monkeypatch) == 0
    assert champions() == [2, 1]
    assert runs_from_cache() == ["evaluate_cnn", "evaluate_cnn", "evaluate_gan"]  # the generator was there already
    assert registry.history(CNN.model)[1].startswith("version 2 champion since 20")
    assert tags(CNN.model, 2)["champion.previous"] == "1"
    assert tags(CNN.model, 2)["promotion.accuracy_difference"].startswith("+0.3")
    assert "champion.until" in tags(CNN.model, 1)
    assert tags(CNN.model, 1)["promotion.challenger"].startswith("version 2, 20")
    assert registry.client().search_registered_models(f"name = '{LOCK}'") == []


def test_a_worse_one_is_not_promoted(project, monkeypatch, capsys, tmp_path):
    write_classifier(project / CNN.file, blind_to=0)
    write_generator(project / GAN.file, brightness=0.4)
    commit(project, "a classifier that is blind to balls, and dark stripes")
    assert promotion(monkeypatch, "--markdown", str(tmp_path / "comment.md")) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "Not promoted: accuracy is not shown to be better (-0.3" in said
    assert "Not promoted: kid is not shown to be better (+" in said
    assert "Compared with the previous candidate, version 1 (for information only):" in said
    assert "There is no previous candidate to compare with." in said  # of the generators
    assert champions() == [2, 1]
    assert tags(CNN.model, 3)["promotion.decision"] == "refused"
    assert tags(GAN.model, 2)["promotion.against"] == "1"
    assert "champion.since" not in tags(CNN.model, 3)
    assert len(registry.history(CNN.model)) == 2
    text = (tmp_path / "comment.md").read_text()
    assert "**Not promoted: accuracy is not shown to be better" in text
    assert "<details><summary>Compared with the previous candidate, version 1" in text


def test_a_rollback_lasts_until_it_is_undone(project, monkeypatch, capsys):
    assert promotion(monkeypatch, "--rollback") == 0
    assert "visionloop-cnn: version 1 is the champion again, instead of version 2" in capsys.readouterr().out
    assert champions() == [1, 1]
    assert registry.history(CNN.model)[2].startswith("version 1 restored 20")
    write_classifier(project / CNN.file)
    write_generator(project / GAN.file)
    commit(project, "back to the one that was rolled back")
    assert promotion(monkeypatch) == 3
    assert "version 2 was rolled back at 20" in capsys.readouterr().out
    assert champions() == [1, 1]
    assert promotion(monkeypatch, "--again", "--model", "cnn") == 0
    assert champions() == [2, 1]
    assert ROLLED_BACK not in tags(CNN.model, 2)
    assert promotion(monkeypatch, "--rollback", "--model", "cnn") == 0
    with pytest.raises(UserError, match="nothing to roll back: version 1 of visionloop-cnn has no previous champion"):
        promotion(monkeypatch, "--rollback")
    assert [line.split(" 20")[0] for line in registry.history(CNN.model)] == [
        "version 1 promoted",
        "version 2 champion since",
        "version 1 restored",
        "version 2 promoted",
        "version 1 restored",
    ]


def test_what_a_commit_does_not_stand_for_is_refused(project, monkeypatch):
    before = snapshot()
    network = project / CNN.file
    kept = network.read_bytes()

    network.write_bytes(kept + b"x")
    with pytest.raises(UserError, match=r"data/train_cnn/model.keras differs from the file in dvc.lock"):
        promotion(monkeypatch)
    network.unlink()
    with pytest.raises(UserError, match=r"data/train_cnn/model.keras not found: run `dvc pull`"):
        promotion(monkeypatch)
    network.write_bytes(kept)

    lock = (project / "dvc.lock").read_text()
    (project / "dvc.lock").write_text(lock + "\n# edited\n")
    with pytest.raises(UserError, match=r"dvc\.lock has uncommitted changes"):
        promotion(monkeypatch)
    (project / "dvc.lock").write_text(lock)

    stages = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(stages.replace("'true'", "'echo'").replace('"true"', '"echo"'))
    with pytest.raises(UserError, match=r"\(all would run\): run `dvc repro` and commit dvc.lock"):
        promotion(monkeypatch)
    (project / "dvc.yaml").write_text(stages)

    with monkeypatch.context() as patch:
        patch.setenv("CI", "true")
        with pytest.raises(UserError, match="in CI a local store is lost"):
            promotion(monkeypatch)
        with pytest.raises(UserError, match="in CI a local store is lost"):
            promotion(monkeypatch, "--rollback")
    assert snapshot() == before


def test_there_are_never_two_promotions_at_once(project, monkeypatch):
    before = champions()
    with promotion_lock():
        with pytest.raises(UserError, match="another promotion is running"):
            promotion(monkeypatch, "--again")
        with pytest.raises(UserError, match="another promotion is running"):
            promotion(monkeypatch, "--rollback")
        assert promotion(monkeypatch, "--dry-run", "--model", "gan") == 0  # which changes nothing
    assert champions() == before
