"""docs/extending.md, followed to the letter in a throw-away copy of the project."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, tiny_ingest
from tests.test_pipeline import Project, copy_sources, ran

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
STEP = re.compile(
    r"^(?P<verb>Append to|Create|In) `(?P<file>[^`]+)`(?:, (?P<how>insert before|insert after|replace) "
    r"`(?P<line>[^`]+)`(?: by)?)?:\n\n```\w+\n(?P<code>.*?)```$",
    re.MULTILINE | re.DOTALL,
)
CLASSES, SIDE = ["ball", "box", "cup"], 12
TINY = {
    "gan": {
        "arch": "article", "loss": "smooth-hinge", "width": 4, "steps": 4, "evaluate_every": 2, "batch_size": 8,
        "latent_dim": 4,
    },
    "evaluate_cnn": {
        "resamples": 100, "corrupted_images": 0, "outlier_images": 10, "outlier_bank": 0, "label_images": 0
    },
}  # fmt: skip
STAGES = ("train_gan", "evaluate_cnn", "summarise")  # the others' outputs are made by hand, or not needed
# In one process, which imports TensorFlow once.
TRAINING = f"""
import runpy
from pathlib import Path
from stages.classifier.base.networks import build_classifier
from stages.training.network_files import save_network
for arch, path in (("compact", "data/reference/model.keras"), ("plain", "data/train_cnn/model.keras")):
    Path(path).parent.mkdir(exist_ok=True)
    save_network(build_classifier(arch, ({SIDE}, {SIDE}, 1), {len(CLASSES)}, 4), path)
for stage in ("train_gan", "evaluate_cnn"):
    runpy.run_module(f"stages.{{stage}}", run_name="__main__")
"""
AUGMENTATION = """
import numpy as np
from stages.augment import AugmentParams, recipe
from stages.augmentation.operations import Key
from stages.core.params import load_params
params = load_params(AugmentParams, "augment")
assert "inversion" not in recipe(params)
chosen = recipe(params.model_copy(update={"inversion": 1.0}))
images = np.zeros((2, 8, 8, 1), np.uint8)
assert (chosen["inversion"]()(images, Key(0, 0, 0)) == 255).all()
"""
SEARCH = """
from ops.search.study import Definition
space = ["gan.loss=relativistic,hinge,smooth-hinge"]
objectives, parsed = Definition("", [["gan.val_fd", "minimise"]], space, None).parsed()
assert "smooth-hinge" in parsed["gan.loss"].choices
"""


def apply(step: re.Match[str], folder: Path) -> None:
    """One edit of the page. The line that it names must be there once."""
    path, code = folder / step["file"], step["code"]
    if step["verb"] == "Create":
        assert not path.exists()
        path.write_text(code, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if step["verb"] == "Append to":
        path.write_text(f"{text.rstrip()}\n\n\n{code}", encoding="utf-8")
        return
    lines = text.splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if line.strip() == step["line"]]
    assert len(places) == 1, f"{step['file']} holds {step['line']!r} {len(places)} times"
    first, last = {"insert before": (0, 0), "insert after": (1, 1), "replace": (0, 1)}[step["how"]]
    lines[places[0] + first : places[0] + last] = [code]
    path.write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy with all of the page's edits, after the stages that they concern have run."""
    project = Project(tmp_path_factory.mktemp("extending"))
    project.environment |= {"VISIONLOOP_TRACKING": "off"}
    copy_sources(project.folder)
    for step in STEP.finditer(PAGE):
        apply(step, project.folder)
    params = yaml.safe_load((project.folder / "params.yaml").read_text(encoding="utf-8"))
    for section, values in TINY.items():
        params[section] |= values
    (project.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    pipeline = yaml.safe_load((project.folder / "dvc.yaml").read_text(encoding="utf-8"))
    kept = {"stages": {name: pipeline["stages"][name] for name in STAGES}}
    (project.folder / "dvc.yaml").write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
    tiny_ingest(project.folder, classes=CLASSES, size=SIDE)
    (project.folder / "data/validate").mkdir()
    (project.folder / "data/validate/passed").write_text("0\n", encoding="utf-8")
    project.run(sys.executable, "-c", TRAINING)
    project.init_git()
    project.commit("Extended")
    project.run("dvc", "commit", "--force", "train_gan", "evaluate_cnn")
    assert ran(project.run("dvc", "repro")) == ["summarise"]
    return project


def visionloop(project: Project, *words: str) -> str:
    return project.run(sys.executable, "-m", "ops", *words)


def test_every_block_of_code_is_a_step_and_the_page_has_its_five_sections() -> None:
    blocks = re.findall(r"^```(\w+)\n", PAGE, re.MULTILINE)
    assert len(list(STEP.finditer(PAGE))) == len([language for language in blocks if language != "bash"]) > 15
    assert len(re.findall("^## ", PAGE, re.MULTILINE)) == 5


def test_the_metric_is_measured_and_shown(project: Project) -> None:
    folder = project.folder / "data/evaluate_cnn"
    value = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["cnn"]["balanced_accuracy"]
    assert 0 <= value <= 1
    row = f"| balanced accuracy | {value:.4f} |  | mean over classes of the recall |"
    assert row in (folder / "report.md").read_text(encoding="utf-8")
    visionloop(project, "metrics")
    page = (project.folder / "docs/metrics.md").read_text(encoding="utf-8")
    assert "| `cnn.balanced_accuracy` | balanced accuracy | ↑ |  | mean over classes of the recall |" in page
    visionloop(project, "report", "--no-gate")
    report = (project.folder / ".visionloop/report/report.md").read_text(encoding="utf-8")
    assert f"| balanced accuracy ↑ | {value:.4f} |" in report
    said = project.run(
        *(sys.executable, "-m", "ops", "search", "--maximise", "cnn.balanced_accuracy", "-S", "cnn.width=4,8"), ok=False
    )
    assert "cnn.balanced_accuracy is measured on the test images" in said


def test_the_loss_trains_and_is_a_value_of_a_search(project: Project) -> None:
    metrics = json.loads((project.folder / "data/train_gan/metrics.json").read_text(encoding="utf-8"))
    assert metrics["gan"]["best_step"] in (2, 4)
    project.run(sys.executable, "-c", SEARCH)


def test_the_augmentation_is_off_by_default_and_inverts_when_asked(project: Project) -> None:
    project.run(sys.executable, "-c", AUGMENTATION)


def test_the_stage_declares_what_it_imports(project: Project) -> None:
    assert (project.folder / "data/summarise/mean_images.png").stat().st_size > 1000
    printed = yaml.safe_load(visionloop(project, "dependencies", "summarise"))["summarise"]
    declared = yaml.safe_load((project.folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["summarise"]
    assert [path for path in declared["deps"] if not path.startswith("data/")] == printed["deps"]
    assert declared["params"] == printed["params"]
    ignored = subprocess.run(["git", "check-ignore", "-q", "data/summarise"], cwd=project.folder, check=False)
    assert ignored.returncode == 0


def test_the_tables_of_architecture_name_the_columns_that_the_stages_write(project: Project) -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    paths = [path for stage in ("train_gan", "evaluate_cnn") for path in project.folder.glob(f"data/{stage}/*.csv")]
    assert len(paths) == 6
    for path in paths:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{path.relative_to(project.folder)}`"))
        header = path.read_text(encoding="utf-8").splitlines()[0].split(",")
        columns = [name for name in header if not name.startswith("p_")]
        assert re.findall(r"`(\w+)`", row.split("|")[2])[: len(columns)] == columns
