"""The command `visionloop` runs the code of the project in the working folder, whichever checkout installed it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ops.__main__ import COMMANDS
from tests.conftest import ROOT
from tests.test_pipeline import Project

VISIONLOOP = Path(sys.executable).with_name("visionloop")
NAMES = [name for group in COMMANDS.values() for name in group]
# Whoever asks for help has not asked for these, of which the fastest takes a tenth of a second to import.
SLOW = {
    *("cv2", "dvc", "keras", "matplotlib", "mlflow", "numpy", "optuna", "pandas", "PIL", "pyarrow", "pydantic"),
    *("requests", "scipy", "sklearn", "sqlalchemy", "tensorflow"),
}


def run(*words: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([VISIONLOOP, *words], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a command that says where it lies, and a stage that runs it."""
    project = Project(tmp_path / "project")
    (project.folder / "ops").mkdir(parents=True)
    (project.folder / "ops/__init__.py").touch()
    (project.folder / "ops/__main__.py").write_text("print(__file__)\n")
    (project.folder / "dvc.yaml").write_text(
        "stages:\n  where:\n    cmd: visionloop > where.txt\n    deps: [ops/__main__.py]\n    params: [word]\n"
        "    outs: [{where.txt: {cache: false}}]\n"
    )
    (project.folder / "params.yaml").write_text("word: here\n")
    project.init_git()
    project.run("dvc", "init", "--quiet")
    project.commit("start")
    return project


def test_it_lists_every_command_with_a_line() -> None:
    done = run(folder=ROOT)
    assert done.returncode == 0
    assert re.findall(r"^  ([a-z-]+) +\S.*\w$", done.stdout, re.MULTILINE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_help_needs_no_slow_package(name: str) -> None:
    code = (
        f"import sys, runpy; sys.argv = ['visionloop', {name!r}, '--help']\n"
        "try: runpy.run_module('ops', run_name='__main__', alter_sys=True)\n"
        f"finally: print('imported', sorted({SLOW!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: visionloop {name}")
    assert done.stderr.splitlines()[-1] == "imported []"


def test_it_does_the_same_as_the_module() -> None:
    module = subprocess.run([sys.executable, "-m", "ops"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert module.stdout == run(folder=ROOT).stdout


def test_an_unknown_command_is_one_sentence() -> None:
    done = run("pretend", folder=ROOT)
    assert done.returncode == 1
    assert re.fullmatch(r"error: unknown command 'pretend': expected one of predict, .*\n", done.stderr)


def test_outside_of_a_project_and_below_its_root_it_refuses(tmp_path: Path) -> None:
    done = run("predict", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path} is not in a visionloop project: ")
    done = run("predict", folder=ROOT / "ops")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {ROOT / 'ops'} is not the root of the project: run `cd {ROOT}` first")


def test_in_a_worktree_it_runs_the_code_of_the_worktree(project: Project, tmp_path: Path) -> None:
    project.run("git", "worktree", "add", "--quiet", str(tmp_path / "tree"))
    for folder in (project.folder, tmp_path / "tree"):
        assert run(folder=folder).stdout == f"{folder}/ops/__main__.py\n"


def test_in_the_copy_of_an_experiment_it_runs_the_code_of_the_copy(project: Project) -> None:
    project.run("dvc", "exp", "run", "--temp", "--name", "there", "-S", "word=there")
    project.run("dvc", "exp", "apply", "there")
    where = (project.folder / "where.txt").read_text()
    assert "/.dvc/tmp/exps/" in where
    assert where.endswith("/ops/__main__.py\n")
