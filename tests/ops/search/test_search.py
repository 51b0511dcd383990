"""ops.search on a toy stage that measures at once what a formula says: trials, pruning, failures, kills, clones.

DVC and git are real, and so is the record that a stage keeps; in tests/test_search_pipeline.py the networks are, too.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from ops.search import study as search_study
from ops.search.__main__ import parse
from ops.search.objectives import Objective
from ops.search.report import draw, line, summary
from ops.search.study import Definition, counted, open_storage, open_study, retry
from ops.search.trial import failure_message
from stages.running.terminal import UserError
from tests.conftest import ROOT, user_environment
from tests.running.test_tracking import free_port, wait_until
from tests.test_pipeline import Project

pytestmark = pytest.mark.slow

# Its Frechet distance is lowest at the default rate of 1.5e-3, and falls from step to step.
TOY = """
import json, math, os, time
from pathlib import Path
from stages.core.params import load_params
from stages.running import terminal
from stages.running.tracking.record import stage_run
from stages.train_gan import GanParams

def main():
    params = load_params(GanParams, "gan")
    if params.lr > 1.5e-3 and "TOY_FAILS" in os.environ or params.width == 13:
        raise terminal.UserError("d_loss became not finite")
    with stage_run("train_gan", params) as run:
        for step in range(1, 5):
            fd = 1 + 10 * abs(math.log10(params.lr / 1.5e-3)) + 1 / step
            run.metrics({"val_fd": fd}, step=step)
            time.sleep(float(os.environ.get("TOY_SECONDS", "0.3")))
    Path("data/train_gan").mkdir(parents=True, exist_ok=True)
    metrics = {"val_fd": fd, "weights": 100 * params.width}
    Path("data/train_gan/metrics.json").write_text(json.dumps({"gan": metrics}))

terminal.run_stage(main)
"""
PIPELINE = """
stages:
  train_gan:
    cmd: python toy.py
    params: [gan]
    metrics:
      - data/train_gan/metrics.json:
          cache: false
"""
BEST_IS_LOWEST = "gan.lr=log(1.5e-3,1)"  # the default, which is trial 0, is better than any other
PLAIN = ("--study", "toy", "--minimise", "gan.val_fd", "-S", BEST_IS_LOWEST)


class Toy(Project):
    """A repository with one toy stage."""

    def search(self, *words: str, ok: bool = True, **environment: str) -> str:
        """What the search says."""
        return self.run(sys.executable, "-m", "ops", "search", *words, ok=ok, **environment)

    def start(self, *words: str, **environment: str) -> subprocess.Popen:
        """A search in the background."""
        return subprocess.Popen(
            [sys.executable, "-m", "ops", "search", *words],
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def experiments(self) -> list[str]:
        return sorted(self.run("dvc", "exp", "list", "--name-only", "--all-commits").split())

    def study(self, storage: str | optuna.storages.BaseStorage | None = None) -> optuna.Study:
        default = f"sqlite:///{self.folder}/.visionloop/search.db"
        return optuna.load_study(study_name="toy", storage=storage or default)

    def records(self) -> dict[str, dict[str, Any]]:
        """All tags and the status of each run in the outbox, by DVC experiment."""
        found = {}
        for path in sorted(self.folder.glob(".visionloop/outbox/*/events.jsonl")):
            tags: dict[str, Any] = {}
            for event in map(json.loads, path.read_text().splitlines()):
                tags |= event.get("tags", {}) | (event["values"] if event["kind"] == "tags" else {})
                tags |= {"status": event["status"]} if event["kind"] == "end" else {}
            found[tags.get("dvc_experiment", "")] = tags  # it may just begin
        return found

    def copies(self) -> list[str]:
        """The throw-away copies that are still there."""
        return [path.name for path in self.folder.glob(".dvc/tmp/exps/standalone/tmp*")]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    environment = user_environment() | {"PYTHONPATH": str(ROOT), "VISIONLOOP_TRACKING": "later"}
    toy = Toy(tmp_path / "toy", environment)
    toy.folder.mkdir()
    shutil.copy(ROOT / "params.yaml", toy.folder)
    (toy.folder / "toy.py").write_text(TOY)
    (toy.folder / "dvc.yaml").write_text(PIPELINE)
    (toy.folder / ".gitignore").write_text("/.visionloop/\n")
    toy.init_git()
    toy.run("dvc", "init", "--quiet")
    toy.run("dvc", "config", "core.analytics", "false")
    toy.commit("start")
    return toy


def states(trials: Sequence[optuna.trial.FrozenTrial]) -> list[str]:
    return [trial.state.name for trial in trials]


# ---------------------------------------------------------------- whole searches


def test_trials_are_experiments_and_tagged_runs_and_the_same_command_adds_only_what_is_missing(toy: Toy) -> None:
    said = toy.search(*PLAIN, "--trials", "2")
    assert "Warning" not in said
    assert re.search(r"trial 0: gan.val_fd 1.25 in \d+ s \(gan.lr=0.0015\)", said)
    assert "study toy: minimise gan.val_fd; 0 of 2 trials so far" in said
    assert "2 trials finished, 0 pruned, 0 failed" in said
    assert "use it:   uv run dvc exp apply toy-0" in said
    assert toy.experiments() == ["toy-0", "toy-1"]
    assert (toy.folder / ".visionloop/search/toy.png").read_bytes().startswith(b"\x89PNG")
    assert [t.values[0] for t in toy.study().trials] == [
        json.loads(toy.run("git", "show", f"{ref}:data/train_gan/metrics.json"))["gan"]["val_fd"]
        for ref in sorted(toy.run("git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/toy-*").split())
    ]
    records = toy.records()
    assert {name: (tags["study"], tags["trial"], tags["status"]) for name, tags in records.items()} == {
        "toy-0": ("toy", "0", "FINISHED"),
        "toy-1": ("toy", "1", "FINISHED"),
    }
    assert toy.run("git", "status", "--porcelain") == ""
    again = toy.search(*PLAIN, "--trials", "3")
    assert "2 of 3 trials so far" in again
    assert re.findall(r"trial (\d+):", again) == ["2"]
    assert "uv run dvc exp apply toy-0" in toy.search("--study", "toy", "--trials", "3")  # the study knows the rest
    toy.run("dvc", "exp", "apply", "toy-1")
    (worse,) = [trial for trial in toy.study().trials if trial.number == 1]
    assert f"{worse.params['gan.lr']:.6g}"[:5] in (toy.folder / "params.yaml").read_text()


def test_a_hopeless_trial_is_stopped_and_leaves_nothing_but_its_record(toy: Toy) -> None:
    said = toy.search(*PLAIN, "--trials", "3", "--prune", "median", "--prune-from", "1", TOY_SECONDS="2")
    assert re.findall(r"trial (\d): pruned at step 1 with gan.val_fd", said) == ["1", "2"]
    assert states(toy.study().trials) == ["COMPLETE", "PRUNED", "PRUNED"]
    assert toy.experiments() == ["toy-0"]
    assert toy.copies() == []
    records = toy.records()
    assert {name: (tags["status"], tags.get("pruned"), "error" in tags) for name, tags in records.items()} == {
        "toy-0": ("FINISHED", None, False),
        "toy-1": ("KILLED", "true", False),
        "toy-2": ("KILLED", "true", False),
    }
    assert "2 pruned" in said
    (toy.folder / "notes.txt").write_text("an untracked file is no change\n")
    assert "3 of 3 trials so far" in toy.search("--study", "toy", "--trials", "3")


def test_several_objectives_give_a_front_and_a_param_is_a_cost(toy: Toy) -> None:
    words = ["--study", "toy", "--minimise", "gan.val_fd", "--minimise", "gan.steps", "--minimise", "gan.weights"]
    said = toy.search(
        *words, "-S", BEST_IS_LOWEST, "-S", "gan.steps=int(100,2000)", "-S", "gan.width=4", "--trials", "3"
    )
    assert "Pareto front (no other trial is better in every objective):" in said
    for trial in toy.study().trials:
        assert trial.values[1] == trial.params["gan.steps"]
        assert trial.values[2] == 400
    assert len(toy.study().best_trials) >= 1


def test_a_trial_that_fails_is_recorded_with_what_its_stage_said_and_the_search_goes_on(toy: Toy) -> None:
    said = toy.search(*PLAIN, "--trials", "2", TOY_FAILS="1")
    trials = toy.study().trials
    assert states(trials) == ["COMPLETE", "FAIL"]
    assert trials[1].user_attrs["error"] == "d_loss became not finite"
    assert re.search(r"trial 1: failed \(gan.lr=[\d.]+\): d_loss became not finite", said)
    assert toy.experiments() == ["toy-0"]
    assert "2 of 2 trials so far" in toy.search("--study", "toy", "--trials", "2")


def test_when_the_first_trials_all_fail_it_stops_and_says_why(toy: Toy) -> None:
    said = toy.search("--study", "toy", "--minimise", "gan.val_fd", "-S", "gan.width=13", "--trials", "9", ok=False)
    assert "error: 3 trials in a row failed, the last with: d_loss became not finite" in said
    assert len(toy.study().trials) == 3
    assert toy.copies() == []


def wait_for_trial(toy: Toy, number: int) -> None:
    """Until the stage of this trial is at work."""
    wait_until(lambda: f"toy-{number}" in toy.records(), 60)


@pytest.mark.parametrize("lasts", ["long", "shortly"])
def test_a_search_that_is_killed_goes_on_and_ends_with_the_asked_number(toy: Toy, lasts: str) -> None:
    running = toy.start(*PLAIN, "--trials", "2", TOY_SECONDS="20" if lasts == "long" else "1")
    wait_for_trial(toy, 0)
    running.kill()
    running.communicate()
    if lasts == "shortly":
        wait_until(lambda: toy.experiments() == ["toy-0"], 60)  # the experiment did not know
    said = toy.search(*PLAIN, "--trials", "2")
    trials = toy.study().trials
    if lasts == "long":
        assert "trial 0 was lost when its search was killed: it is retried" in said
        assert states(trials) == ["FAIL", "COMPLETE", "COMPLETE"]
        assert trials[0].params == trials[1].params
        assert toy.experiments() == ["toy-1", "toy-2"]
    else:
        assert "trial 0 had finished when its search was killed" in said
        assert states(trials) == ["COMPLETE"] * 2
        assert toy.experiments() == ["toy-0", "toy-1"]
    assert states(counted(trials)) == ["COMPLETE"] * 2
    assert toy.copies() == []


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_ctrl_c_stops_the_experiment_too_and_the_same_command_goes_on(toy: Toy, how: signal.Signals) -> None:
    running = toy.start(*PLAIN, "--trials", "1", TOY_SECONDS="20")
    wait_for_trial(toy, 0)
    running.send_signal(how)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "interrupted: rerun the same command to resume trial 0" in said
    assert toy.records()["toy-0"]["status"] == "KILLED"
    assert toy.copies() == []
    assert "1 trials finished" in toy.search(*PLAIN, "--trials", "1")
    assert toy.experiments() == ["toy-1"]


def test_a_killed_dvc_leaves_no_copy_behind(toy: Toy) -> None:
    running = toy.start(*PLAIN, "--trials", "1", TOY_SECONDS="20")
    wait_for_trial(toy, 0)
    (ours,) = [int(p) for p in subprocess.check_output(["pgrep", "-P", str(running.pid)], text=True).split()]
    running.kill()
    running.communicate()
    os.killpg(ours, signal.SIGKILL)
    assert len(toy.copies()) == 1
    toy.search(*PLAIN, "--trials", "1")
    assert toy.copies() == []
    assert toy.experiments() == ["toy-1"]


def test_two_clones_at_once_make_exactly_the_asked_number(toy: Toy, tmp_path: Path) -> None:
    toy.run("git", "clone", "--quiet", str(toy.folder), str(tmp_path / "other"))
    other = Toy(tmp_path / "other", toy.environment)
    shared = f"sqlite:///{tmp_path}/shared.db"
    words = [*PLAIN, "--trials", "4", "--storage", shared]
    searches = [clone.start(*words) for clone in (toy, other)]
    for running in searches:
        said, _ = running.communicate(timeout=240)
        assert running.returncode == 0, said
    trials = toy.study(shared).trials
    assert states(counted(trials)) == ["COMPLETE"] * 4
    assert {t.state for t in trials if "surplus" in t.user_attrs} <= {TrialState.FAIL}
    assert len({trial.user_attrs["clone"] for trial in counted(trials)}) == 2
    assert toy.experiments()
    assert other.experiments()
    names = [trial.user_attrs["experiment"] for trial in counted(trials)]
    assert sorted(names) == sorted(toy.experiments() + other.experiments())


def test_a_second_search_in_one_clone_is_told_to_take_another(toy: Toy) -> None:
    running = toy.start(*PLAIN, "--trials", "1", TOY_SECONDS="3")
    wait_for_trial(toy, 0)
    assert "error: another search is running in this clone" in toy.search(*PLAIN, ok=False)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 0, said


def test_dvc_pushes_each_finished_trial_when_it_is_told_to(toy: Toy, tmp_path: Path) -> None:
    toy.run("git", "init", "--quiet", "--bare", str(tmp_path / "origin.git"))
    toy.run("git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    toy.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    toy.commit("a remote")
    toy.search(*PLAIN, "--trials", "1", DVC_EXP_AUTO_PUSH="true")
    assert re.findall(r"refs/exps/\S+/(\S+)", toy.run("git", "ls-remote", "origin")) == ["toy-0"]


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server's database."""
    programs = shutil.which(
        "initdb", path=os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
    )
    if not programs:
        pytest.skip("PostgreSQL's programs are not installed")
    owner = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
    folder, port = Path(tempfile.mkdtemp()), free_port()
    if owner:
        shutil.chown(folder, owner)
    options: dict[str, Any] = {"user": owner, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    subprocess.run([programs, "-D", folder / "db", "-U", "me", "-A", "trust", "--no-sync"], check=True, **options)
    binaries = Path(programs).resolve().parent
    command = [binaries / "postgres", "-D", folder / "db", "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
    server = subprocess.Popen(list(map(str, command)), **options)
    wait_until(
        lambda: subprocess.run([binaries / "pg_isready", "-h", folder, "-p", str(port)], **options).returncode == 0
    )
    yield f"postgresql://me@127.0.0.1:{port}/postgres"
    server.send_signal(signal.SIGINT)
    server.wait(30)
    shutil.rmtree(folder)


def test_two_clones_share_a_study_in_postgresql(toy: Toy, tmp_path: Path, postgres: str) -> None:
    toy.run("git", "clone", "--quiet", str(toy.folder), str(tmp_path / "other"))
    other = Toy(tmp_path / "other", toy.environment)
    words = [*PLAIN, "--trials", "2", "--storage", postgres]
    searches = [clone.start(*words) for clone in (toy, other)]
    for running in searches:
        said, _ = running.communicate(timeout=240)
        assert running.returncode == 0, said
    storage = optuna.storages.RDBStorage(postgres)
    assert states(counted(toy.study(storage).trials)) == ["COMPLETE"] * 2
    storage.engine.dispose()
    assert len(toy.experiments() + other.experiments()) == 2


# ---------------------------------------------------------------- what it refuses


def test_what_would_make_trials_incomparable_is_refused(toy: Toy) -> None:
    with toy.edited("params.yaml", "width: 32 ", "width: 50 "):
        assert "error: uncommitted changes (params.yaml) would affect the trials" in toy.search(*PLAIN, ok=False)
    toy.search(*PLAIN, "--trials", "1")
    said = toy.search("--study", "toy", "--minimise", "gan.val_fd", "-S", "gan.lr=log(1e-4,1)", ok=False)
    assert "error: the study toy has space gan.lr=log(1.5e-3,1), this command has gan.lr=log(1e-4,1)" in said
    said = toy.search(*PLAIN, "--storage", f"sqlite:///{toy.folder}/.visionloop/other.db", ok=False)
    assert "error: experiments named toy-... exist here, but the study toy is new" in said
    toy.run("git", "commit", "--quiet", "--allow-empty", "--message", "later")
    assert "the study toy has commit" in toy.search(*PLAIN, ok=False)
    assert "the study belongs to commit" in toy.search("--study", "toy", ok=False)


def test_what_it_cannot_do_is_one_sentence_before_anything_runs(toy: Toy) -> None:
    said = toy.search("--minimise", "gan.val_fd", "-S", "gan.lr=log(1e-4,2)", ok=False)
    assert said == "error: `gan.lr` is 2.0: input should be less than or equal to 1 (with gan.lr=2.0)\n"
    said = toy.search("--study", "none", ok=False)
    assert said == "error: there is no study none: give -S and --minimise or --maximise to begin it\n"
    assert toy.experiments() == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "expected -S PARAM=SPACE and --minimise or --maximise METRIC, or a --study"),
        ([*PLAIN, "--trials", "0"], "--trials and --prune-from: expected 1 or more"),
        ([*PLAIN, "--prune", "mean"], "invalid choice: 'mean'"),
        (["--study", "my study"], "expected letters, digits, . _ and -, as experiments are named after it"),
        (["--study", "toy", "--prune", "median"], "--prune can only be set when a study begins"),
    ],
)
def test_a_wrong_command_is_told_of(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(words)
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("shared.db", "--storage is 'shared.db', expected an address such as"),
        ("sqlite:////none/at/all.db", "sqlite:////none/at/all.db cannot be opened: unable to open database file"),
        ("oracledb://host/x", "cannot be opened: "),
        ("postgresql://me:secret@127.0.0.1:9/x", r"postgresql://me:\*\*\*@127.0.0.1:9/x cannot be opened: connection"),
    ],
)
def test_a_database_that_cannot_be_had_is_one_sentence(url: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        open_storage(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("what", ["table studies already exists", "UNIQUE constraint failed: version_num"])
def test_who_makes_the_tables_beside_another_one_tries_again(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def refuse_once(*arguments: Any, **options: Any) -> RDBStorage:
        if not refused:
            refused.append(what)
            kind = sqlalchemy.exc.OperationalError if "exists" in what else sqlalchemy.exc.IntegrityError
            raise kind("INSERT", {}, sqlite3.DatabaseError(what))
        return RDBStorage(*arguments, **options)

    monkeypatch.setattr("ops.search.study.RDBStorage", refuse_once)
    assert open_storage(f"sqlite:///{tmp_path}/search.db").get_all_studies() == []
    assert refused


def test_pruning_wants_tracking(toy: Toy) -> None:
    said = toy.search(*PLAIN, "--prune", "median", ok=False, VISIONLOOP_TRACKING="off")
    assert "error: --prune needs the metrics that stages record" in said


# ---------------------------------------------------------------- the study


ASKED_OUTSIDE = pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used with Study.optimize")
DEFINITION = Definition("c" * 40, [["gan.val_fd", "minimise"]], ["gan.lr=log(1e-4,1e-2)"], None)


@ASKED_OUTSIDE
def test_lost_trials_are_put_back_and_do_not_count(project: Path) -> None:
    study = open_study(open_storage(f"sqlite:///{project}/search.db"), "toy", DEFINITION, 5)
    assert states(study.trials) == ["WAITING"]  # the params as they are
    assert counted(study.trials) == []
    trial = study.ask()
    assert trial.suggest_float("gan.lr", 1e-4, 1e-2, log=True) == 1.5e-3
    assert [t.number for t in counted(study.trials)] == [0]
    study.tell(trial, state=TrialState.FAIL)
    assert [t.number for t in counted(study.trials)] == [0]
    retry()(study, study.trials[0])
    assert counted(study.trials) == []
    again = study.ask()
    assert (again.number, again.suggest_float("gan.lr", 1e-4, 1e-2, log=True)) == (1, 1.5e-3)
    again.set_user_attr("surplus", True)
    assert counted(study.trials) == []


@ASKED_OUTSIDE
def test_a_trial_is_not_put_back_for_ever(project: Path) -> None:
    study = open_study(open_storage(f"sqlite:///{project}/search.db"), "toy", DEFINITION, 5)
    for _ in range(4):
        number = study.ask().number
        study.tell(number, state=TrialState.FAIL)
        retry()(study, study.trials[number])
    assert states(study.trials) == ["FAIL"] * 4
    assert [t.number for t in counted(study.trials)] == [3]


@ASKED_OUTSIDE
def test_a_trial_of_a_machine_that_went_silent_is_tried_by_another(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_study, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(search_study, "SILENT_SECONDS", 2)
    storage = open_storage(f"sqlite:///{project}/search.db")
    study = open_study(storage, "toy", DEFINITION, 5)
    lost = study.ask({"gan.lr": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)})
    storage.record_heartbeat(lost._trial_id)
    time.sleep(4)
    study.optimize(lambda trial: trial.suggest_float("gan.lr", 1e-4, 1e-2, log=True), 1)
    assert states(study.trials) == ["FAIL", "COMPLETE"]
    assert study.trials[1].values == [lost.params["gan.lr"]]
    assert [trial.number for trial in counted(study.trials)] == [1]


def test_a_study_of_somebody_else_is_left_alone(project: Path) -> None:
    storage = open_storage(f"sqlite:///{project}/search.db")
    optuna.create_study(storage=storage, study_name="theirs")
    with pytest.raises(UserError, match="the study theirs was not made by"):
        open_study(storage, "theirs", None, 5)


def finished(study: optuna.Study, values: Sequence[float], **params: float) -> None:
    distributions: dict[str, optuna.distributions.BaseDistribution] = {}
    distributions |= {key: optuna.distributions.FloatDistribution(0, 1e6) for key in params}
    trial = optuna.create_trial(
        values=list(values), params=params, distributions=distributions, user_attrs={"experiment": "toy-9", "host": "b"}
    )
    study.add_trial(trial)


def test_the_picture_shows_one_objective_and_two(tmp_path: Path) -> None:
    one, two = optuna.create_study(), optuna.create_study(directions=["minimize", "maximize"])
    fd, accuracy = Objective("gan.val_fd", "minimise"), Objective("cnn.val_accuracy", "maximise")
    assert not draw(one, [fd], tmp_path / "none.png")
    for k in range(12):
        finished(one, [200 / (k % 5 + 1)], lr=k)
        finished(two, [10 - k % 4, 0.9 - 0.01 * (k % 7)], lr=k)
    assert draw(one, [fd], tmp_path / "one.png")
    assert draw(two, [fd, accuracy], tmp_path / "two.png")
    assert (tmp_path / "two.png").stat().st_size > (tmp_path / "one.png").stat().st_size > 5000


def test_the_table_names_the_best_first_and_where_it_ran(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = optuna.create_study(direction="maximize")
    objective = Objective("cnn.val_accuracy", "maximise")
    for value in (0.9, 0.96, 0.93):
        finished(study, [value], lr=value / 10)
    lines = summary(study, [objective], "c" * 40)
    assert lines[0] == "3 trials finished, 0 pruned, 0 failed or retried"
    assert [text.split()[0] for text in lines[3:6]] == ["0.96", "0.93", "0.9"]
    assert "toy-9 ran on b: run `uv run dvc exp push origin toy-9` there" in lines[6]
    assert line(study.trials[1], [objective]) == "trial 1: cnn.val_accuracy 0.96 in 0 s (lr=0.096)"


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("", "exited without output"),
        ("one\n\n", "one"),
        ("error: the disk is full\nERROR: failed to run\n", "the disk is full"),
        ("ERROR: failed to run\nlast\n", "failed to run"),
    ],
)
def test_a_failed_trial_is_explained_by_what_its_stage_said_or_dvc_or_the_last_line(
    log: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text(log)
    assert failure_message(tmp_path / "log") == expected
