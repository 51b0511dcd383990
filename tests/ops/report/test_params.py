"""ops.report.params: changed values of params files, data pointers and code."""

import subprocess
from pathlib import Path

import pytest

from ops.project.revisions import Commit, WorkTree
from ops.report.params import Change, Inputs, changed_inputs, section, sentence

POINTER = "outs:\n- md5: {md5}.dir\n  size: 2097152\n  nfiles: {files}\n  path: pets\n"


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commit:
    """A commit with params, a data pointer, a card and code; the work tree is the same."""
    monkeypatch.chdir(tmp_path)
    for folder in ("data/raw", "stages/core"):
        Path(folder).mkdir(parents=True)
    Path("params.yaml").write_text("cnn: {lr: 1.0e-3, arch: compact, width: null}\ngan: {steps: 5}\n")
    Path("versions.yaml").write_text('keras: "3.15.1"\n')
    Path("data/raw/pets.dvc").write_text(POINTER.format(md5="0123456789", files=1500))
    Path("data/raw/digits").write_text("name: digits\n")
    Path("stages/train_cnn.py").write_text("print(1)\n")
    Path("dvc.yaml").write_text("stages: {}\n")
    for command in (["init", "--quiet"], ["add", "."], ["-c", "user.name=T", "-c", "user.email=t@e", "commit", "-qmx"]):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    return Commit(head, tmp_path / "copies")


def test_nothing_changed(base):
    changed = changed_inputs(base, WorkTree())
    assert changed == Inputs([], [], [])
    assert section(changed) is None
    assert sentence(changed) == ""


def test_every_kind_of_change(base):
    Path("params.yaml").write_text("cnn: {lr: 2e-3, arch: compact, width: true}\nnew: {list: [1, 2], empty: {}}\n")
    Path("versions.yaml").write_text('keras: "3.16.0"\n')
    Path("data/raw/pets.dvc").write_text(POINTER.format(md5="abcdef0123", files=1540))
    Path("data/raw/digits").unlink()
    Path("data/raw/mnist").write_text("name: mnist\nhash: x\n")
    Path("stages/train_cnn.py").write_text("print(2)\n")
    Path("stages/core/new.py").write_text("\n")
    changed = changed_inputs(base, WorkTree())
    assert [change[1:] for change in changed.params] == [
        ("cnn.lr", "0.001", "2e-3"),
        ("cnn.width", "null", "true"),
        ("new.list", None, "[1, 2]"),
        ("new.empty", None, "{}"),
        ("gan.steps", "5", None),
    ]
    assert changed.others == [
        Change("versions.yaml", "keras", "3.15.1", "3.16.0"),
        Change("data/raw/digits", "", "card, 1 lines", None),
        Change("data/raw/mnist", "", None, "card, 2 lines"),
        Change("data/raw/pets.dvc", "", "1,500 files, 2.0 MiB, md5 0123456", "1,540 files, 2.0 MiB, md5 abcdef0"),
    ]
    assert changed.code == ["stages/core/new.py", "stages/train_cnn.py"]
    assert sentence(changed).startswith("data/raw/digits, data/raw/mnist, data/raw/pets.dvc, cnn.lr 0.001 -> 2e-3, ")
    assert sentence(changed, with_data=False) == (
        "cnn.lr 0.001 -> 2e-3, cnn.width null -> true, new.list none -> [1, 2], 2 more params, 1 package version, "
        "2 files of code"
    )
    written = section(changed)
    assert written is not None
    assert len(written.blocks) == 2
