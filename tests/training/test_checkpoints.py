"""The key of a checkpoint: it changes with everything that shapes the result, and with nothing else."""

from pathlib import Path

import pytest
import yaml

from stages.core.params import Params
from stages.training.checkpoints import Checkpoint
from tests.conftest import ROOT


class PaintParams(Params):
    width: int = 3


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of one stage, which depends on a script, a package, a data set and a file of data."""
    (tmp_path / ".dvcignore").write_bytes((ROOT / ".dvcignore").read_bytes())
    for path in ("stages/paint.py", "stages/painting/oil/varnish.py", "data/ingest/train.npy", "data/validate/passed"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    dependencies = ["stages/paint.py", "stages/painting", "data/ingest", "data/validate/passed"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"paint": {"deps": dependencies}}}))
    monkeypatch.setattr("stages.training.checkpoints.fingerprint", lambda: {"cpu": "one"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def key(params: PaintParams | None = None) -> str:
    return Checkpoint("paint", params or PaintParams(), {}).key


@pytest.mark.parametrize(
    "path", ["stages/paint.py", "stages/painting/oil/varnish.py", "data/ingest/train.npy", "data/validate/passed"]
)
def test_a_changed_byte_of_a_dependency_changes_it(checkout: Path, path: str) -> None:
    before = key()
    (checkout / path).write_text(path.upper())
    assert key() != before


@pytest.mark.parametrize("folder", ["stages/painting", "data/ingest"])
def test_a_new_and_a_renamed_file_in_a_dependency_change_it(checkout: Path, folder: str) -> None:
    found = [key()]
    (checkout / folder / "new").write_text("")
    found.append(key())
    (checkout / folder / "new").rename(checkout / folder / "renamed")
    found.append(key())
    assert len(set(found)) == 3


def test_params_and_machine_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [key(), key(PaintParams(width=4))]
    monkeypatch.setattr("stages.training.checkpoints.fingerprint", lambda: {"cpu": "another"})
    found.append(key())
    assert len(set(found)) == 3


@pytest.mark.parametrize("path", ["stages/painting/__pycache__/oil.cpython-313.pyc", "stages/painting/oil/.DS_Store"])
def test_what_python_and_file_browsers_leave_beside_code_does_not(checkout: Path, path: str) -> None:
    before = key()
    (checkout / path).parent.mkdir(exist_ok=True)
    (checkout / path).write_text("stray")
    assert key() == before


def test_code_that_no_dependency_names_does_not(checkout: Path) -> None:
    before = key()
    (checkout / "stages/running.py").write_text("")
    assert key() == before
