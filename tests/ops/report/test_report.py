"""ops.report and ops.report.metrics: whole reports, in a git and DVC repository with small networks and no training."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.project.networks import CNN, GAN
from ops.project.revisions import Commit, WorkTree
from ops.promote.gate.decision import Decision, Line
from ops.report import __main__ as report
from ops.report import formatting
from ops.report import metrics as report_metrics
from stages.core.dataset import SCHEMA
from stages.running.terminal import UserError
from tests.conftest import ROOT, tiny_ingest, user_environment
from tests.test_pipeline import Project

# The outputs of the whole pipeline as those of three stages that do nothing.
DVC_YAML = """
stages:
  ingest:
    cmd: "true"
    outs: [data/ingest]
  evaluate_cnn:
    cmd: "true"
    deps: [data/ingest]
    params: [cnn]
    outs:
      - data/train_cnn/model.keras
      - data/evaluate_cnn/predictions.csv
      - data/evaluate_cnn/confusion.png
      - data/validate/passed
    metrics:
      - data/evaluate_cnn/metrics.json: {cache: false}
  evaluate_gan:
    cmd: "true"
    deps: [data/ingest]
    outs:
      - data/reference/model.keras
      - data/train_gan/generator.keras
      - data/evaluate_gan/samples.png
    metrics:
      - data/evaluate_gan/metrics.json: {cache: false}
"""
# The same when a single stage evaluated both networks.
FORMER_DVC_YAML = """
stages:
  ingest:
    cmd: "true"
    outs: [data/ingest]
  evaluate:
    cmd: "true"
    deps: [data/ingest]
    params: [cnn]
    outs:
      - data/reference/model.keras
      - data/train_cnn/model.keras
      - data/train_gan/generator.keras
      - data/evaluate/predictions.csv
      - data/evaluate/confusion.png
      - data/evaluate/samples.png
      - data/validate/passed
    metrics:
      - data/evaluate/metrics.json: {cache: false}
"""
CLASSES = ("ball", "b|x @octocat", "<i>cup")
GENERATOR = {
    "fd": 5.0,
    "fd_floor": 1.0,
    "kid": 0.5,
    "precision": 0.5,
    "recall": 0.25,
    "label_accuracy": 0.5,
    "cas": 0.75,
}


def write_classifier(path: Path, seed: int) -> None:
    from stages.classifier.base.networks import build_classifier
    from stages.training.network_files import save_network
    from stages.training.tensorflow import keras

    keras.utils.set_random_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_network(build_classifier("compact", (12, 12, 1), 3, 4), path)


def write_generator(path: Path, seed: int) -> None:
    from stages.generator.networks import build_generator
    from stages.training.network_files import save_network
    from stages.training.tensorflow import keras

    keras.utils.set_random_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_network(build_generator("conv", (12, 12, 1), 3, 8, 8, True), path)


def write_evaluation() -> None:
    """What the evaluating stages leave of the classifier; the generator's figures are made up."""
    from ops.promote.measure import class_probabilities
    from stages.core.dataset import read_images, read_labels
    from stages.core.outputs import write_metrics, write_table
    from stages.drawing.grids import image_grid
    from stages.evaluation.classifier.metrics import probability_metrics

    images, labels = read_images("data/ingest", "test"), read_labels("data/ingest", "test")
    probabilities = class_probabilities(CNN.file, CLASSES, images, CLASSES)
    for network in (CNN, GAN):
        network.evaluation.mkdir(parents=True, exist_ok=True)
    figures = probability_metrics(probabilities, labels)
    write_metrics(CNN.metrics, {"cnn": {name: figures[name] for name in ("accuracy", "macro_f1", "nll", "ece")}})
    write_metrics(GAN.metrics, {"gan": GENERATOR})
    pairs = zip(labels, probabilities.argmax(axis=1), strict=True)
    rows = [{"class": CLASSES[a], "predicted": CLASSES[b]} for a, b in pairs]
    write_table(CNN.evaluation / "predictions.csv", rows)
    image_grid(images[:12], CNN.evaluation / "confusion.png", 4)
    image_grid(images[:12], GAN.evaluation / "samples.png", 4)
    Path("data/validate").mkdir(exist_ok=True)
    Path("data/validate/passed").write_text("a digest\n")


def add_images(label: int, count: int, *, fill: int | None = None) -> None:
    """Adds train images to data/ingest as if the raw data had more of them."""
    folder, random = Path("data/ingest"), np.random.default_rng(99)
    added = random.integers(0, 255, (count, 12, 12, 1), dtype=np.uint8) if fill is None else np.empty((0, 12, 12, 1))
    if fill is not None:
        added = np.stack([np.full((12, 12, 1), fill + k, np.uint8) for k in range(count)])
    np.save(folder / "train-00000.npy", np.concatenate([np.load(folder / "train-00000.npy"), added]))
    rows = pq.read_table(folder / "manifest.parquet").to_pylist()
    last = [row for row in rows if row["split"] == "train"][-1]
    new = [
        {
            **last,
            "source": f"train/{CLASSES[label]}/new-{k}.png",
            "label": label,
            "class": CLASSES[label],
            "sha256": hashlib.sha256(image.tobytes()).hexdigest(),
            "mean": float(image.mean()),
            "std": float(image.std()),
        }
        for k, image in enumerate(added)
    ]
    rows = [{**row, "id": index} for index, row in enumerate(rows + new)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "manifest.parquet")


@pytest.fixture(scope="module")
def two_commits(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """`first`, and then another classifier on the same data."""
    project = Project(tmp_path_factory.mktemp("report") / "project")
    folder = project.folder
    folder.mkdir()
    served = ("stages/serving/classifier/model.py", "stages/serving/generator/model.py")
    for name in ("params.yaml", "promotion.yaml", "versions.yaml", ".gitignore", *served):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    project.init_git()
    project.run("dvc", "init", "--quiet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny_ingest(folder, classes=CLASSES, train=12, val=4, test=12)
        write_classifier(Path("data/reference/model.keras"), seed=1)
        write_classifier(Path("data/train_cnn/model.keras"), seed=2)
        write_generator(Path("data/train_gan/generator.keras"), seed=3)
        write_evaluation()
        settle(project, "first")
        write_classifier(Path("data/train_cnn/model.keras"), seed=4)
        text = (folder / "params.yaml").read_text()
        (folder / "params.yaml").write_text(text.replace("  lr: 8.0e-3 ", "  lr: 2.0e-2 "))
        write_evaluation()
        settle(project, "second")
    return project


def settle(project: Project, message: str) -> None:
    """Lets DVC take the outputs as those of a run, and commits."""
    project.run("dvc", "commit", "--quiet", "--force")
    project.commit(message)


@pytest.fixture
def repository(two_commits: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of it as the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(two_commits.folder, folder, symlinks=True)
    monkeypatch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "GITHUB_BASE_REF", "CI"):
        monkeypatch.delenv(name, raising=False)
    return Project(folder)


def make_report(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Runs `python -m ops report` in this process; returns report.md."""
    monkeypatch.setattr(sys, "argv", ["report", *arguments])
    report.main()
    return Path(".visionloop/report/report.md").read_text()


def row(text: str, name: str, occurrence: int = 0) -> list[str]:
    """The cells of a row of a table."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {name}")]
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", lines[occurrence])[1:-1]]


# ---------------------------------------------------------------- whole reports


def test_another_classifier_on_the_same_data(repository, monkeypatch, capsys):
    text = make_report(monkeypatch)
    before, now = (
        json.loads(repository.run("git", "show", f"{commit}:{CNN.metrics}"))["cnn"] for commit in ("HEAD~1", "HEAD")
    )
    change = formatting.signed("cnn", "accuracy", now["accuracy"] - before["accuracy"])
    assert f"**cnn.lr 0.008 -&gt; 0.02**; accuracy {before['accuracy']:.4f} -&gt; {now['accuracy']:.4f}" in text
    for name, key in (("accuracy ↑", "accuracy"), ("NLL ↓", "nll"), ("ECE ↓", "ece")):
        _, old, new, difference, ends = row(text, name)
        assert [float(old), float(new)] == pytest.approx([before[key], now[key]], abs=6e-5)
        low, high = (float(end) for end in ends.split(" to "))
        assert low <= float(difference) <= high
    assert row(text, "accuracy ↑")[3] == change
    assert "It is the same network as at base" in text
    assert row(text, "FD ↓") == ["FD ↓", "5.000"]  # equal figures are shown once
    assert row(text, "<code>cnn.lr</code>") == ["<code>cnn.lr</code>", "0.008", "0.02"]
    assert "### Data" not in text
    # There is no registry: one sentence each, and the report is there all the same.
    assert len(re.findall(r"^\*no MLflow store at .*\*$", text, re.MULTILINE)) == 2
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == [".visionloop/report/report.md", "changed:", "effect:", "gate:"]
    page = Path(".visionloop/report/report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    for unsafe in ("<i>cup", "b|x @octocat |"):
        assert unsafe not in text + page
    pictures = re.findall(r"\]\((\w+\.png)\)", text)
    assert pictures == ["confusion.png", "samples.png"]
    assert {path.name for path in Path(".visionloop/report").glob("*.png")} == {*pictures}


def test_more_data_is_measured_again_and_recorded_figures_are_not_subtracted(repository, monkeypatch):
    add_images(2, 3)
    write_generator(Path("data/train_gan/generator.keras"), seed=5)
    write_evaluation()
    repository.run("dvc", "commit", "--quiet", "--force")
    text = make_report(monkeypatch, "--no-gate")
    assert "**data: 3 images added in class &lt;i&gt;cup**" in text
    assert text.count("are not comparable") == 2
    cells = row(text, "FD ↓")
    assert cells[1] not in ("", "5.000")  # the base's generator, measured now
    assert float(cells[3]) == pytest.approx(float(cells[2]) - float(cells[1]), rel=0.01)
    assert "KID ↓" in text
    assert row(text, "CAS ↑") == ["CAS ↑", "", "0.750", "", ""]
    assert "The network of base" in text
    assert row(text, "&lt;i&gt;cup")[1:] == ["28", "31", "+3"]
    assert "![3 images added, with their classes](added.png)" in text
    assert Path(".visionloop/report/added.png").exists()
    assert "### Gate" not in text
    assert "### MLflow" not in text


def test_the_champion_stands_in_for_the_base_when_the_data_changed(repository, monkeypatch):
    add_images(0, 1)
    repository.run("dvc", "commit", "--quiet", "--force")
    lines = [Line("accuracy", 0.5, 0.75, 0.25, 0.125, 0.375, "above 0", True)]
    decisions = [
        Decision(CNN.model, True, "it is better", lines),
        Decision(GAN.model, False, "version 7 is the champion already", []),
    ]
    base = Commit(repository.run("git", "rev-parse", "HEAD").strip(), Path("copies"))
    cnn, gan = report_metrics.compare(base, WorkTree(), decisions)
    assert cnn.opponent == "champion"
    assert cnn.row("accuracy") == report_metrics.Row("accuracy", 0.5, 0.75, (0.125, 0.375))
    assert all(each.before is None for each in cnn.rows if each.metric != "accuracy")
    assert gan.opponent == ""
    assert gan.notes[-1] == "version 7 is the champion already."
    assert "accuracy 0.5000 -> 0.7500 (+0.2500, 95% interval +0.1250 to +0.3750, against the champion" in (
        report_metrics.sentence([cnn, gan])
    )


def test_nothing_changed_needs_neither_tensorflow_nor_mlflow(repository):
    code = (
        "import sys; from ops.report.__main__ import main; sys.argv[1:] = ['--no-gate', '--base', 'HEAD']; main();"
        "assert not {'tensorflow', 'mlflow'} & {*sys.modules}"
    )
    environment = repository.environment | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "changed: nothing was changed" in done.stdout


def test_what_the_base_does_not_have_is_said(repository, monkeypatch):
    add_images(1, 2)
    write_evaluation()
    repository.run("dvc", "commit", "--quiet", "--force")
    shutil.rmtree(".dvc/cache")
    text = make_report(monkeypatch, "--no-gate")
    assert "is neither in DVC's cache nor in its remote, so there is nothing to compare with" in text
    assert "The images of base" in text
    assert "are not available" in text
    assert "Confusion matrix of this; there is none at base" in text
    accuracy = json.loads(CNN.metrics.read_text())["cnn"]["accuracy"]
    assert row(text, "accuracy ↑")[1:] == [f"{accuracy:.4f}"]


def test_a_base_without_a_pipeline_is_no_reason_to_fail(repository, monkeypatch):
    metrics = (str(network.metrics) for network in (CNN, GAN))
    repository.run("git", "rm", "--quiet", "--cached", "dvc.lock", "dvc.yaml", *metrics)
    repository.run("git", "commit", "--quiet", "--message", "without")
    repository.commit("with")
    text = make_report(monkeypatch, "--no-gate")
    assert "### Metrics" in text
    assert "There are no results at base" in text


def test_a_base_that_evaluated_both_networks_in_one_stage_is_compared_with(repository, monkeypatch):
    upgraded = {path: path.read_bytes() for network in (CNN, GAN) for path in network.evaluation.iterdir()}
    former = Path("data/evaluate")
    former.mkdir()
    for path in upgraded:
        path.replace(former / path.name)
    accuracy = json.loads(upgraded[CNN.metrics])["cnn"]["accuracy"]
    both = {"cnn": {"accuracy": accuracy - 0.25}, "gan": GENERATOR | {"fd": 7.0}}
    (former / "metrics.json").write_text(json.dumps(both))
    Path("dvc.yaml").write_text(FORMER_DVC_YAML)
    Path("dvc.lock").unlink()
    settle(repository, "one stage")
    Path("dvc.yaml").write_text(DVC_YAML)
    for path, content in upgraded.items():
        path.write_bytes(content)
    (former / "predictions.csv").write_text("left lying\n")
    repository.run("dvc", "commit", "--quiet", "--force")
    text = make_report(monkeypatch, "--no-gate")
    assert row(text, "accuracy ↑") == ["accuracy ↑", f"{accuracy - 0.25:.4f}", f"{accuracy:.4f}", "+0.2500"]
    assert row(text, "FD ↓") == ["FD ↓", "7.000", "5.000", "-2.000"]
    for name in ("Confusion matrices", "Generated images"):
        assert re.search(rf"!\[{name}: base \w+ and this\]", text)


def test_results_of_another_state_are_not_shown(repository, monkeypatch):
    with repository.edited("params.yaml", "  lr: 2.0e-2 ", "  lr: 3.0e-2 "):
        text = make_report(monkeypatch, "--no-gate")
    assert "**cnn.lr 0.02 -&gt; 0.03**; not run yet: evaluate\\_cnn" in text
    assert "### Metrics" not in text
    assert ".png)" not in text


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--base", "nowhere"], "`nowhere` is not a commit here"),
        (["--out", "data"], "data holds other files"),
        (["--log", "no.log"], "no.log, the log of --log, cannot be read"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_lost(repository, monkeypatch, arguments, says):
    with pytest.raises(UserError, match=says):
        make_report(monkeypatch, *arguments)
    assert Path("data/ingest/manifest.parquet").exists()


def test_a_wrong_base_ends_with_exit_code_1(tmp_path):
    environment = user_environment() | {"PYTHONPATH": str(ROOT), "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    command = [sys.executable, "-m", "ops", "report"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "is not in a git repository" in done.stderr
