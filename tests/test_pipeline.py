"""The whole loop on a tiny data set, as a user runs it: DVC in a git repository of its own, MLflow's default store."""

import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from PIL import Image

from stages.running.tracking.record import stage_section
from tests.conftest import ROOT, end_sender, mlflow_client, user_environment

STAGES = ["ingest", "validate", "augment", "reference", "train_cnn", "train_gan", "evaluate_cnn", "evaluate_gan"]

# Enough for every line of code to run, in seconds.
TINY_PARAMS: dict[str, dict[str, Any]] = {
    "ingest": {"source": "tiny", "val_fraction": 0.2, "test_fraction": 0.25},
    "validate": {"min_images_per_class": 3},
    "augment": {"views": 2},
    "reference": {"steps": 20, "batch_size": 16},
    "cnn": {"width": 4, "epochs": 2, "batch_size": 16, "lr": 0.01},
    "gan": {"width": 8, "latent_dim": 8, "steps": 20, "batch_size": 16, "lr": 0.001, "evaluate_every": 10},
    "evaluate_cnn": {"label_batch_size": 16},
    "evaluate_gan": {
        "images": 60,
        "kid_subsets": 4,
        "kid_subset_size": 10,
        "cas_images": 60,
        "cas_steps": 20,
        "cas_batch_size": 16,
    },
}


def write_tiny_images(folder: Path, per_class: int = 20, side: int = 16) -> None:
    """A folder of images per class: a disc, a square, a cross, each under noise of its own."""
    random, (y, x) = np.random.default_rng(0), np.mgrid[:side, :side] - (side - 1) / 2
    shapes = {"ball": x**2 + y**2 < 25, "box": (abs(x) > 5) & (abs(y) > 5), "cross": (abs(x) < 2) | (abs(y) < 2)}
    for name, shape in shapes.items():
        (folder / name).mkdir(parents=True)
        for k in range(per_class):
            image = np.where(shape, 190, 20) + random.integers(0, 60, (side, side))
            Image.fromarray(image.astype(np.uint8)).save(folder / name / f"{k:02d}.png")


def copy_sources(target: Path) -> None:
    """What a fresh clone would hold if the working tree were committed, without what an earlier pipeline left."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    left_out = re.compile(r"tests/|bench/|dvc\.lock$|data/(?!raw/)")
    for name in names:
        if name and not left_out.match(name) and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def hashes(folder: Path) -> dict[str, str]:
    """The sha256 of every file below `folder`/data but the raw data sets, by path."""
    files = sorted(path for path in (folder / "data").rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return {path: value for path, value in found.items() if not path.startswith("data/raw/")}


@dataclass
class Project:
    """A git and DVC repository in a temporary folder."""

    folder: Path
    environment: dict[str, str] = field(default_factory=user_environment)

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    def run(self, *command: str, ok: bool = True, **environment: str) -> str:
        """What the command says, on both streams; `ok` is whether it must succeed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (done.returncode == 0) is ok, f"{command[:3]} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def init_git(self) -> None:
        """Makes it a git repository of somebody."""
        self.run("git", "init", "--quiet", "--initial-branch", "main")
        self.run("git", "config", "user.name", "Tester")
        self.run("git", "config", "user.email", "tester@example.org")

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def changed_stages(self) -> set[str]:
        """The stages that DVC would run for a change of their own inputs."""
        return set(json.loads(self.run("dvc", "status", "--json")))

    @contextmanager
    def edited(self, path: str, old: str, new: str) -> Iterator[None]:
        """Replaces `old` by `new` in a file, and back."""
        file = self.folder / path
        before = file.read_text()
        assert old in before
        file.write_text(before.replace(old, new))
        try:
            yield
        finally:
            file.write_text(before)

    def mlflow_runs(self, experiment: str = "") -> list[Any]:
        """The runs of a DVC experiment, or those outside of any, oldest first."""
        client = mlflow_client(self.store)
        found = client.get_experiment_by_name("visionloop")
        runs = client.search_runs([found.experiment_id], order_by=["attributes.start_time"])
        return [run for run in runs if run.data.tags.get("dvc_experiment", "") == experiment]

    def model_versions(self, name: str) -> list[Any]:
        """The registered versions of a model, oldest first."""
        found = mlflow_client(self.store).search_model_versions(f"name = '{name}'")
        return sorted(found, key=lambda version: int(version.version))


def ran(said: str) -> list[str]:
    """The stages that DVC ran, in order."""
    return re.findall(r"Running stage '(\w+)'", said)


@dataclass
class Loop(Project):
    """A project after its first `dvc repro`, and what was found then: later tests experiment in it."""

    said: str = ""
    said_again: str = ""
    git_status: list[str] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    loop = Loop(tmp_path_factory.mktemp("pipeline"))
    copy_sources(loop.folder)
    write_tiny_images(loop.folder / "data/raw/tiny")
    params = yaml.safe_load((loop.folder / "params.yaml").read_text())
    for section, values in TINY_PARAMS.items():
        params[section] |= values
    (loop.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    loop.init_git()
    loop.run("dvc", "remote", "add", "--default", "storage", str(tmp_path_factory.mktemp("storage")))
    loop.commit("start")
    loop.said = loop.run("dvc", "repro")
    loop.said_again = loop.run("dvc", "repro")
    loop.git_status = loop.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()
    loop.outputs = hashes(loop.folder)
    for network in ("cnn", "gan"):
        loop.metrics |= json.loads((loop.folder / f"data/evaluate_{network}/metrics.json").read_text())
    loop.runs = {run.data.tags["stage"]: run for run in loop.mlflow_runs()}
    loop.commit("first run")
    yield loop
    end_sender(loop.folder)


@pytest.fixture(scope="module")
def gan_experiment(loop: Loop) -> str:
    """What DVC says to an experiment on the generator, whose number DVC writes in a way that YAML reads as a string."""
    said = loop.run("dvc", "exp", "run", "--name", "slower-gan", "-S", "gan.lr=1e-5")
    loop.run("git", "commit", "--all", "--quiet", "--message", "keep the experiment")
    return said


@pytest.fixture(scope="module")
def cnn_experiment(loop: Loop, gan_experiment: str) -> str:
    """What DVC says to an experiment on the classifier in a throw-away copy."""
    return loop.run("dvc", "exp", "run", "--temp", "--name", "faster-cnn", "-S", "cnn.lr=2e-2")


# ---------------------------------------------------------------- one run


def test_every_stage_runs_once_and_the_terminal_stays_quiet(loop: Loop) -> None:
    assert ran(loop.said) == STAGES
    ours_or_dvc = r"  \S|> |$|Running stage|(Generating|Updating) lock file|Use `dvc push`"
    assert [line for line in loop.said.splitlines() if not re.match(ours_or_dvc, line)] == []


def test_a_second_run_has_nothing_to_do(loop: Loop) -> None:
    assert ran(loop.said_again) == []
    assert "Data and pipelines are up to date." in loop.said_again


def test_the_metrics_are_those_that_others_rely_on(loop: Loop) -> None:
    expected = {
        "cnn": {"accuracy", "macro_f1", "nll", "ece"},
        "gan": {"fd", "fd_floor", "kid", "precision", "recall", "label_accuracy", "cas"},
    }
    assert loop.metrics.keys() == expected.keys()
    for name, keys in expected.items():
        assert keys <= loop.metrics[name].keys()
        assert {type(value) for value in loop.metrics[name].values()} <= {float, int}
    shares = ("accuracy", "macro_f1", "ece", "precision", "recall", "label_accuracy", "cas")
    assert all(0 <= part[key] <= 1 for part in loop.metrics.values() for key in shares if key in part)


def test_git_sees_the_lock_file_and_the_metrics_and_no_edited_gitignore(loop: Loop) -> None:
    metrics = [f"?? data/{stage}/metrics.json" for stage in sorted(STAGES[3:])]
    assert loop.git_status == ["A  dvc.lock", *metrics]


def test_outputs_name_neither_the_machine_nor_a_folder_of_it(loop: Loop) -> None:
    machine = socket.gethostname().encode()
    for name in loop.outputs:
        content = (loop.folder / name).read_bytes()
        assert str(loop.folder).encode() not in content, name
        # A short name is somewhere in any picture.
        if len(machine) > 6 or Path(name).suffix in ("", ".json", ".csv", ".md", ".html"):
            assert not re.search(rb"\b" + re.escape(machine) + rb"\b", content), name


def test_nothing_half_written_is_left(loop: Loop) -> None:
    assert list((loop.folder / "data").rglob(".*")) == []
    assert list((loop.folder / ".visionloop/outbox").iterdir()) == []


# ---------------------------------------------------------------- in MLflow


def test_every_stage_is_a_finished_run_of_one_pipeline_execution(loop: Loop) -> None:
    assert list(loop.runs) == STAGES
    assert {run.info.status for run in loop.runs.values()} == {"FINISHED"}
    assert len({run.data.tags["pipeline_execution"] for run in loop.runs.values()}) == 1
    first_commit = loop.run("git", "rev-list", "--max-parents=0", "HEAD").strip()
    assert {run.data.tags["git_commit"] for run in loop.runs.values()} == {first_commit}
    passed = (loop.folder / "data/validate/passed").read_text().strip()
    assert {run.data.tags["data_hash"] for run in loop.runs.values()} == {passed}


def test_a_run_holds_params_metrics_the_data_set_and_system_metrics(loop: Loop) -> None:
    params = yaml.safe_load(loop.run("git", "show", "HEAD:params.yaml"))
    for stage, run in loop.runs.items():
        section = stage_section(stage)
        assert run.data.params.keys() == {f"{section}.{key}" for key in params[section]}
        assert "system/process_memory_megabytes" in run.data.metrics
        assert len(run.inputs.dataset_inputs) == 1
    assert loop.runs["train_cnn"].data.params["cnn.epochs"] == "2"
    for name, part in loop.metrics.items():
        evaluated = loop.runs[f"evaluate_{name}"].data.metrics
        for key, value in part.items():
            assert evaluated[f"{name}.{key}"] == pytest.approx(value, abs=1e-6)


def test_metrics_have_steps_and_pictures_are_artifacts(loop: Loop) -> None:
    client = mlflow_client(loop.store)
    for stage, metric, steps in (("train_cnn", "val_nll", [1, 2]), ("train_gan", "val_fd", [10, 20])):
        assert [m.step for m in client.get_metric_history(loop.runs[stage].info.run_id, metric)] == steps
    pictures = {
        "ingest": {"preview.png"},
        "validate": {"data_docs", "report.json"},
        "augment": {"before_after.png"},
        "train_cnn": {"curves.png"},
        "train_gan": {"curves.png", "samples", "training.webp"},
        "evaluate_cnn": {"metrics.json", "report.md", "confusion.png", "reliability.png"},
        "evaluate_gan": {"metrics.json", "report.md", "samples.png", "walk.webp"},
    }
    for stage, expected in pictures.items():
        assert expected <= {file.path for file in client.list_artifacts(loop.runs[stage].info.run_id)}


@pytest.mark.parametrize(("name", "stage"), [("visionloop-cnn", "train_cnn"), ("visionloop-gan", "train_gan")])
def test_a_registered_model_says_where_it_comes_from(loop: Loop, name: str, stage: str) -> None:
    first = loop.model_versions(name)[0]
    assert first.run_id == loop.runs[stage].info.run_id
    section = stage_section(stage)
    score = loop.metrics[section]["accuracy" if section == "cnn" else "fd"]
    tag = first.tags[f"metric.{section}.{'accuracy' if section == 'cnn' else 'fd'}"]
    assert tag == f"{score:.6g}"
    assert f"{score:.{4 if section == 'cnn' else 3}f}" in first.description
    for tag in ("git_commit", "data_hash"):
        assert first.tags[tag] == loop.runs[stage].data.tags[tag]
    file = {"cnn": "data/train_cnn/model.keras", "gan": "data/train_gan/generator.keras"}[section]
    assert first.tags["sha256"] == loop.outputs[file]


PREDICT = """
import json, warnings
warnings.simplefilter("ignore")
import mlflow, numpy, pandas
cnn, gan = (mlflow.pyfunc.load_model(f"models:/visionloop-{name}@candidate") for name in ("cnn", "gan"))
asked = pandas.DataFrame({"class": ["box", "ball", "box"], "seed": [7, 7, 7]})
images = gan.predict(asked)
again = gan.predict(asked[1:])
probabilities = cnn.predict(images)
print(json.dumps({
    "images": [str(images.dtype), list(images.shape)],
    "same": bool((images[0] == images[2]).all() and (images[1:] == again).all()),
    "other": bool((images[0] != gan.predict(pandas.DataFrame({"class": ["box"], "seed": [8]}))[0]).any()),
    "probabilities": list(probabilities.shape),
    "sums": numpy.asarray(probabilities).sum(axis=1).tolist(),
    "signatures": [str(model.metadata.signature.inputs) for model in (cnn, gan)],
    "examples": [model.input_example is not None for model in (cnn, gan)],
}))
"""


@pytest.mark.slow
def test_registered_models_predict_in_a_fresh_process_elsewhere(loop: Loop, tmp_path: Path) -> None:
    alone = user_environment() | {"MLFLOW_TRACKING_URI": loop.store, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    done = subprocess.run([sys.executable, "-c", PREDICT], cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["images"] == ["uint8", [3, 16, 16, 1]]
    assert found["same"]
    assert found["other"]
    assert found["probabilities"] == [3, 3]
    assert found["sums"] == pytest.approx([1, 1, 1])
    assert "uint8" in found["signatures"][0]
    assert "'class': string" in found["signatures"][1]
    assert found["examples"] == [True, True]


# ---------------------------------------------------------------- experiments


@pytest.mark.slow
def test_an_experiment_on_the_generator_runs_training_and_evaluation_alone(loop: Loop, gan_experiment: str) -> None:
    assert ran(gan_experiment) == ["train_gan", "evaluate_gan"]
    runs = loop.mlflow_runs("slower-gan")
    assert [run.data.tags["stage"] for run in runs] == ["train_gan", "evaluate_gan"]
    assert float(runs[0].data.params["gan.lr"]) == 1e-5
    assert len({run.data.tags["pipeline_execution"] for run in runs}) == 1
    assert runs[0].data.tags["pipeline_execution"] != loop.runs["ingest"].data.tags["pipeline_execution"]


@pytest.mark.slow
def test_an_experiment_in_a_throw_away_copy_lands_in_the_same_store(loop: Loop, cnn_experiment: str) -> None:
    assert ran(cnn_experiment) == ["train_cnn", "evaluate_cnn"]
    runs = loop.mlflow_runs("faster-cnn")
    assert [(run.data.tags["stage"], run.info.status) for run in runs] == [
        ("train_cnn", "FINISHED"),
        ("evaluate_cnn", "FINISHED"),
    ]
    assert float(runs[0].data.params["cnn.lr"]) == 0.02


@pytest.mark.slow
def test_the_same_bytes_are_registered_once(loop: Loop, cnn_experiment: str) -> None:
    """An experiment evaluates and registers the network that it changes, and no other."""
    for name, newest in (("visionloop-cnn", "faster-cnn"), ("visionloop-gan", "slower-gan")):
        versions = loop.model_versions(name)
        assert len(versions) == len({version.tags["sha256"] for version in versions}) == 2
        candidate = mlflow_client(loop.store).get_model_version_by_alias(name, "candidate")
        assert candidate.version == versions[-1].version
        assert candidate.run_id == loop.mlflow_runs(newest)[0].info.run_id
        assert candidate.tags["dvc_experiment"] == newest


@pytest.mark.slow
def test_experiments_can_be_compared(loop: Loop, cnn_experiment: str) -> None:
    rows = loop.run("dvc", "exp", "show", "--all-commits", "--csv").splitlines()
    assert {"gan.fd", "cnn.accuracy", "gan.lr"} <= {re.sub(r".*[:/]", "", column) for column in rows[0].split(",")}
    assert any("faster-cnn" in row for row in rows)
    diff = json.loads(loop.run("dvc", "metrics", "diff", "HEAD~1", "--json"))
    assert diff["data/evaluate_gan/metrics.json"]["gan.fd"]["diff"] != 0
    assert "index.html" in loop.run("dvc", "plots", "show", "--out", "dvc_plots")


@pytest.mark.slow
def test_an_experiment_killed_in_a_throw_away_copy_goes_on_in_the_next_one(loop: Loop, cnn_experiment: str) -> None:
    command = ["dvc", "exp", "run", "--temp", "--name", "killed-gan", "-S", "gan.steps=600", "-S", "gan.average=0.5"]
    often = loop.environment | {"VISIONLOOP_CHECKPOINT_SECONDS": "0.1"}
    first = subprocess.Popen(command, cwd=loop.folder, env=often, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(loop.folder.glob(".visionloop/checkpoints/train_gan-*/*.npz")):
        assert first.poll() is None
        time.sleep(0.02)
    for process in psutil.Process(first.pid).children(recursive=True):
        if "stages.train_gan" in process.cmdline():
            process.kill()
    assert first.wait() != 0
    said = loop.run(*command, VISIONLOOP_CHECKPOINT_SECONDS="0.1")
    assert ran(said) == ["train_gan", "evaluate_gan"]
    assert "resuming at step" in said
    runs = loop.mlflow_runs("killed-gan")
    assert [(run.data.tags["stage"], run.info.status) for run in runs] == [
        ("train_gan", "FINISHED"),
        ("evaluate_gan", "FINISHED"),
    ]


# ---------------------------------------------------------------- what re-runs what


@pytest.mark.parametrize(
    ("path", "old", "new", "stages"),
    [
        ("stages/generator/losses.py", "\n", "\n\n", {"train_gan"}),
        ("stages/classifier/mixing.py", "\n", "\n\n", {"train_cnn"}),
        ("stages/classifier/base/step.py", "\n", "\n\n", {"reference", "train_cnn", "evaluate_cnn", "evaluate_gan"}),
        ("stages/evaluation/generator/distances.py", "\n", "\n\n", {"evaluate_gan"}),
        ("stages/serving/classifier/model.py", "\n", "\n\n", {"evaluate_cnn"}),
        ("stages/running/parallel.py", "\n", "\n\n", set()),
        ("stages/running/tracking/record.py", "\n", "\n\n", set()),
        ("data/raw/digits", "digits", "numbers", set()),
        ("versions.yaml", 'opencv-python-headless: "', 'opencv-python-headless: "9', {"augment", "evaluate_cnn"}),
        ("versions.yaml", 'scipy: "', 'scipy: "9', {"train_gan", "evaluate_cnn"}),
        ("params.yaml", "kid_subsets: 4", "kid_subsets: 5", {"evaluate_gan"}),
    ],
)
def test_a_change_re_runs_the_stages_it_concerns(loop: Loop, path: str, old: str, new: str, stages: set[str]) -> None:
    with loop.edited(path, old, new):
        assert loop.changed_stages() == stages


@pytest.mark.slow
def test_an_experiment_becomes_a_branch_that_others_pull_without_running_anything(
    loop: Loop, cnn_experiment: str, tmp_path: Path
) -> None:
    """The way from an experiment to a pull request, as the README has it."""
    loop.run("git", "init", "--quiet", "--bare", str(tmp_path / "origin"))
    loop.run("git", "remote", "add", "origin", str(tmp_path / "origin"))
    loop.run("dvc", "exp", "apply", "faster-cnn")
    loop.run("git", "switch", "--quiet", "--create", "faster")
    loop.run("git", "commit", "--quiet", "--all", "--message", "A faster classifier")
    loop.run("dvc", "push")
    loop.run("git", "push", "--quiet", "--set-upstream", "origin", "faster")

    colleague = Project(tmp_path / "colleague")
    loop.run("git", "clone", "--quiet", "--branch", "faster", str(tmp_path / "origin"), str(colleague.folder))
    colleague.run("dvc", "pull")
    said = colleague.run("dvc", "repro")
    assert ran(said) == []
    assert "up to date" in said
    assert yaml.safe_load((colleague.folder / "params.yaml").read_text())["cnn"]["lr"] == 0.02
    assert hashes(colleague.folder) == hashes(loop.folder)
    assert colleague.run("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_verify_makes_the_committed_results_again_and_says_what_differs(loop: Loop) -> None:
    (loop.folder / "fingerprint.yaml").unlink(missing_ok=True)  # that of the project's own data
    said = loop.run("python", "-m", "ops", "verify", "augment")
    rows = re.findall(r"^(\w+) +(data/\S+) +(.*)$", said, re.MULTILINE)
    assert {stage for stage, _, _ in rows} == {"ingest", "validate", "augment"}
    assert {outcome for _, _, outcome in rows} == {"same"}
    assert f"{len(rows)} of {len(rows)} agree" in said
    lock = yaml.safe_load((loop.folder / "dvc.lock").read_text())
    md5 = next(out["md5"] for out in lock["stages"]["validate"]["outs"] if out["path"].endswith("passed"))
    with loop.edited("dvc.lock", md5, "f" * 32):
        said = loop.run("python", "-m", "ops", "verify", "validate", ok=False)
    assert "different; the recorded one is not in the cache" in said
    assert "Traceback" not in said


# ---------------------------------------------------------------- the same bytes, and failures, in a copy

WITHOUT_RUNNING = """
import runpy, sys, tempfile
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

class UserError(Exception):
    pass

class Interrupted(KeyboardInterrupt):
    pass

class Progress:
    def __init__(self, *_, **__): pass
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def note(self, text): pass
    def advance(self, count=1): pass

class Run:
    def __getattr__(self, name): return lambda *_, **__: None

@contextmanager
def stage_run(stage, params, resumable=None):
    yield Run()

def ordered_map(function, chunks, workers=None, *, threads=False):
    yield from map(function, chunks)

def replace(name, **names):
    # With an empty path, what is not replaced cannot be imported.
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(names, __path__=[])
    parent, _, child = name.rpartition(".")
    setattr(sys.modules[parent], child, module)

import stages
replace("stages.running")
replace(
    "stages.running.terminal",
    UserError=UserError, Interrupted=Interrupted, Progress=Progress,
    say=lambda *_: None, silence=lambda: None, run_stage=lambda main: main(),
)
replace("stages.running.tracking")
replace(
    "stages.running.tracking.record",
    Run=Run, stage_run=stage_run, source_name=lambda: "", pinned=lambda packages: [],
)
replace(
    "stages.running.parallel",
    ordered_map=ordered_map, available_cores=lambda: 1, shared_temporary_folder=tempfile.gettempdir,
)
replace("stages.running.launcher", is_chief=lambda: True, slurm_tasks=lambda: 0, tf_config=dict)
replace("stages.running.checkout", main_checkout=Path.cwd)
replace("stages.running.code_digest", code_digest=lambda *_: "")
replace("stages.running.moved_params", params_to_move=lambda *_: {}, name_elsewhere=lambda *_: "")
for stage in sys.argv[1:]:
    runpy.run_module(f"stages.{stage}", run_name="__main__")
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()  # layers are numbered by process
"""


@pytest.fixture(scope="module")
def copy(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A fresh clone, its stages run one after another in one process, without the room stages/running."""
    copy = Project(tmp_path_factory.mktemp("elsewhere"))
    copy.run("git", "clone", "--quiet", str(loop.folder), ".")
    copy.run("git", "checkout", "--quiet", loop.runs["ingest"].data.tags["git_commit"])
    assert copy.run(sys.executable, "-c", WITHOUT_RUNNING, *STAGES) == ""
    yield copy
    end_sender(copy.folder)


@pytest.mark.slow
def test_outputs_are_the_same_bytes_in_a_clone_without_the_room_that_is_output_neutral(
    loop: Loop, copy: Project
) -> None:
    assert {path.split("/")[1] for path in loop.outputs} == set(STAGES)
    assert hashes(copy.folder) == loop.outputs
    assert not (copy.folder / "mlflow.db").exists()


@pytest.mark.slow
def test_a_param_out_of_range_stops_a_stage_at_once_with_one_sentence(copy: Project) -> None:
    started = time.monotonic()
    with copy.edited("params.yaml", "lr: 0.001", "lr: 2"):
        said = copy.run("python", "-m", "stages.train_gan", ok=False)
    assert said == "error: params.yaml: `gan.lr` is 2: input should be less than or equal to 1\n"
    assert time.monotonic() - started < 10


@pytest.mark.slow
def test_an_unreachable_server_stops_a_stage_at_once_with_one_sentence(copy: Project) -> None:
    before, started = hashes(copy.folder), time.monotonic()
    said = copy.run("python", "-m", "stages.ingest", ok=False, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert re.fullmatch(r"error: MLflow does not answer at MLFLOW_TRACKING_URI=http://127\.0\.0\.1:9 .*\n", said)
    assert time.monotonic() - started < 5
    assert hashes(copy.folder) == before


@pytest.mark.slow
def test_bad_data_fails_the_pipeline_and_its_run(copy: Project) -> None:
    with copy.edited("params.yaml", "min_images_per_class: 3", "min_images_per_class: 1000"):
        said = copy.run("python", "-m", "stages.validate", ok=False)
    assert "Traceback" not in said
    assert "error: the data breaks 1 of" in said
    (run,) = copy.mlflow_runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("the data breaks 1 of")
    assert run.data.metrics["expectations_failed"] == 1
