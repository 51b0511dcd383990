"""A search with real networks on a tiny data set: pruned, killed, gone on, and shared through git, DVC and MLflow."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
import yaml

from ops.search.study import counted
from tests.conftest import end_sender, mlflow_client
from tests.running.test_tracking import wait_until
from tests.test_pipeline import TINY_PARAMS, Project, copy_sources, write_tiny_images

pytestmark = pytest.mark.slow

EPOCHS = 80  # long enough to be stopped in the midst of them
USELESS = [f"{k}e-7" for k in range(1, 40)]  # rates at which nothing is learned
SEARCH = [sys.executable, "-m", "ops", "search", "--study", "rates", "--minimise", "cnn.val_nll", "--trials", "3"]
SEARCH += ["-S", f"cnn.lr=0.01,{','.join(USELESS)}", "--prune", "median", "--prune-from", "1"]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Project]:
    """A project whose data is prepared, with a git and a DVC remote."""
    tiny = Project(tmp_path / "project")
    tiny.folder.mkdir()
    copy_sources(tiny.folder)
    write_tiny_images(tiny.folder / "data/raw/tiny")
    params = yaml.safe_load((tiny.folder / "params.yaml").read_text())
    for section, values in TINY_PARAMS.items():
        params[section] |= values
    params["cnn"] |= {"epochs": EPOCHS, "average": 0, "patience": 0, "schedule": "constant"}
    (tiny.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    tiny.init_git()
    tiny.run("git", "init", "--quiet", "--bare", "--initial-branch", "main", str(tmp_path / "origin.git"))
    tiny.run("git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    tiny.run("dvc", "add", "data/raw/tiny")
    tiny.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    tiny.run("dvc", "repro", "augment", VISIONLOOP_TRACKING="off")
    tiny.commit("data")
    tiny.run("git", "push", "--quiet", "origin", "main")
    yield tiny
    end_sender(tiny.folder)


def epochs_recorded(project: Project, experiment: str) -> int:
    """How many epochs the classifier's record of this experiment holds so far."""
    for path in project.folder.glob(".visionloop/outbox/*-train_cnn-*/events.jsonl"):
        with suppress(FileNotFoundError):  # it has been delivered
            text = path.read_text()
            if experiment in text.partition("\n")[0]:
                return text.count("val_nll")
    return 0


def test_a_search_is_pruned_killed_resumed_and_shared(tiny: Project, tmp_path: Path) -> None:
    killed = subprocess.Popen(
        SEARCH, cwd=tiny.folder, env=tiny.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_until(lambda: epochs_recorded(tiny, "rates-0") > 0 or killed.poll() is not None, 120)
    finally:
        killed.kill()
        killed.communicate()
    said = tiny.run(*SEARCH)
    assert "trial 0 was lost" in said or "trial 0 had finished" in said
    assert "study rates: minimise cnn.val_nll; " in said
    assert "use it:   uv run dvc exp apply rates-" in said

    study = optuna.load_study(study_name="rates", storage=f"sqlite:///{tiny.folder}/.visionloop/search.db")
    trials = counted(study.trials)
    finished = [trial for trial in trials if trial.state.name == "COMPLETE"]
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert len(finished) + len(pruned) == len(trials) == 3
    assert len(pruned) >= 1
    assert {trial.params["cnn.lr"] for trial in finished} == {0.01}
    assert all(0 < len(trial.intermediate_values) < EPOCHS for trial in pruned)

    # DVC has the finished ones, and nothing is left of the others.
    names = sorted(trial.user_attrs["experiment"] for trial in finished)
    assert sorted(tiny.run("dvc", "exp", "list", "--name-only").split()) == names
    assert list(tiny.folder.glob(".dvc/tmp/exps/standalone/tmp*")) == []
    assert list(tiny.folder.glob(".visionloop/checkpoints/*/*.npz")) == []
    assert tiny.run("git", "status", "--porcelain") == ""

    # MLflow has them all.
    wait_until(lambda: not list((tiny.folder / ".visionloop/outbox").iterdir()), 60)
    client = mlflow_client(tiny.store)
    found = client.get_experiment_by_name("visionloop")
    runs = client.search_runs([found.experiment_id], "tags.stage = 'train_cnn' and tags.study = 'rates'")
    by_trial = {int(run.data.tags["trial"]): run for run in runs}
    for trial in finished:
        run = by_trial[trial.number]
        assert run.info.status == "FINISHED"
        assert run.data.tags["dvc_experiment"] == trial.user_attrs["experiment"]
        assert run.data.metrics["best/val_nll"] == pytest.approx(trial.value, abs=1e-6)
    for trial in pruned:
        assert (by_trial[trial.number].info.status, by_trial[trial.number].data.tags["pruned"]) == ("KILLED", "true")
        assert by_trial[trial.number].data.params["cnn.lr"] == str(float(trial.params["cnn.lr"]))

    # A colleague gets the best one without running anything.
    best = names[0]
    tiny.run("dvc", "exp", "push", "origin", best)
    tiny.run("git", "clone", "--quiet", str(tmp_path / "origin.git"), str(tmp_path / "colleague"))
    colleague = Project(tmp_path / "colleague")
    colleague.run("git", "config", "user.name", "Colleague")
    colleague.run("git", "config", "user.email", "colleague@example.org")
    colleague.run("dvc", "exp", "pull", "origin", best)
    colleague.run("dvc", "exp", "branch", best, "best")
    colleague.run("git", "switch", "--quiet", "best")
    colleague.run("dvc", "checkout", "train_cnn")
    metrics = json.loads((colleague.folder / "data/train_cnn/metrics.json").read_text())
    assert metrics["cnn"]["val_nll"] == next(t.value for t in finished if t.user_attrs["experiment"] == best)
    assert (colleague.folder / "data/train_cnn/model.keras").exists()
