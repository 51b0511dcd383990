"""A full disk ends each stage in one clear sentence, and leaves what earlier runs wrote as it was."""

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages import augment, evaluate_cnn, evaluate_gan, ingest, reference, train_cnn, train_gan, validate
from stages.classifier.base.networks import build_classifier
from stages.core.dataset import digest
from stages.core.outputs import is_disk_full
from stages.generator.networks import build_generator
from stages.ingestion.sources import open_source
from stages.running.terminal import UserError, run_stage
from stages.training.network_files import save_network
from tests.conftest import ROOT, tiny_ingest

pytestmark = pytest.mark.slow

TINY = {
    "ingest": {"source": "set", "val_fraction": 0.2},
    "augment": {"views": 2},
    "reference": {"steps": 2, "batch_size": 16},
    "cnn": {"arch": "article", "epochs": 1, "batch_size": 16},
    "gan": {"arch": "article", "loss": "bce", "penalty": 0, "width": 8, "latent_dim": 4, "steps": 2, "batch_size": 16},
    "evaluate_gan": {"images": 12, "kid_subsets": 2, "kid_subset_size": 10, "cas_images": 20, "cas_steps": 2},
}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project on a disk of 24 MiB with the inputs of every stage, as the working directory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if mounted.returncode:
        pytest.skip("this user may not mount a disk of a few MiB")
    try:
        for name in ("dvc.yaml", "versions.yaml"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for section, changes in TINY.items():
            params[section] |= changes
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        monkeypatch.setenv("VISIONLOOP_TRACKING", "off")
        monkeypatch.chdir(folder)
        yield folder
    finally:
        os.chdir(ROOT)
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, left: int) -> None:
    """Leaves `left` bytes."""
    free = shutil.disk_usage(disk).free
    with (disk / "filler").open("wb") as file:
        while free > left:
            free -= file.write(bytes(min(2**16, free - left)))


def previous(stage: str) -> Path:
    """What an earlier run of a stage wrote, in brief."""
    folder = Path("data") / stage
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "earlier").write_text("what an earlier run wrote", encoding="utf-8")
    return folder


def sentence(main: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which a stage ends; data/ must be as it was."""
    before = digest("data")
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run_stage(main)
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert said.count("\n") == 1, said
    assert digest("data") == before
    assert not list(Path("data").glob(".*"))
    return said


def assert_full(
    stage: str, main: Callable[[], None], disk: Path, capsys: pytest.CaptureFixture[str], left: int
) -> None:
    previous(stage)
    fill(disk, left)
    assert re.match(
        f"error: no space left to write data/{stage} .* the outputs of earlier runs are unchanged",
        sentence(main, capsys),
    )


@pytest.mark.parametrize("left", [0, 4096, 16384])
def test_ingest(disk, capsys, left):
    draw = np.random.default_rng(0)
    for k in range(60):
        path = disk / "data" / "raw" / "set" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (16, 16), np.uint8)).save(path)
    assert_full("ingest", ingest.main, disk, capsys, left)
    (disk / "filler").unlink()
    ingest.main()
    assert not Path("data/ingest/earlier").exists()


@pytest.mark.parametrize("left", [0, 16384])
def test_validate(disk, capsys, left):
    tiny_ingest(disk)
    assert_full("validate", validate.main, disk, capsys, left)


@pytest.mark.parametrize("left", [0, 16384])
def test_augment(disk, capsys, left):
    tiny_ingest(disk)
    previous("validate").joinpath("passed").write_text("a hash", encoding="utf-8")
    assert_full("augment", augment.main, disk, capsys, left)


@pytest.fixture
def networks(disk: Path) -> None:
    """The data set and the networks that the later stages read, untrained."""
    tiny_ingest(disk)
    for view in ("view-00", "view-01"):
        (disk / "data" / "augment" / view).mkdir(parents=True)
        for shard in (disk / "data" / "ingest").glob("train-*.npy"):
            shutil.copy(shard, disk / "data" / "augment" / view)
    for stage in ("validate", "reference", "train_cnn", "train_gan"):
        previous(stage)
    (disk / "data" / "validate" / "passed").write_text("a hash", encoding="utf-8")
    for name in ("model", "second"):
        save_network(build_classifier("compact", (12, 12, 1), 3, 16), f"data/reference/{name}.keras")
    save_network(build_classifier("article", (12, 12, 1), 3, 8), "data/train_cnn/model.keras")
    save_network(build_generator("article", (12, 12, 1), 3, 4, 8, True), "data/train_gan/generator.keras")


@pytest.mark.parametrize(
    ("stage", "main", "left"),
    [
        ("reference", reference.main, 16384),
        ("train_cnn", train_cnn.main, 2**16),
        ("train_gan", train_gan.main, 2**16),
        ("evaluate_cnn", evaluate_cnn.main, 2**15),
        ("evaluate_gan", evaluate_gan.main, 2**14),
    ],
)
@pytest.mark.usefixtures("networks")
def test_stages_with_networks(disk, capsys, stage, main, left):
    assert_full(stage, main, disk, capsys, left)


@pytest.mark.usefixtures("networks")
def test_a_checkpoint_that_finds_no_space_is_the_same_sentence(disk, capsys, monkeypatch):
    monkeypatch.setenv("VISIONLOOP_CHECKPOINT_SECONDS", "0")
    assert_full("reference", reference.main, disk, capsys, 0)


def test_a_full_temporary_folder_says_where(disk, monkeypatch, tmp_path):
    Path("set").mkdir()
    (disk / "set" / "noise").write_bytes(np.random.default_rng(0).bytes(2**20))
    shutil.make_archive(str(tmp_path / "set"), "gztar", disk / "set")
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    fill(disk, 4096)
    with pytest.raises(UserError, match=rf"{disk} has no space to decompress .*: free some, set TMPDIR"):
        open_source(tmp_path / "set.tar.gz").__enter__()
    assert not list(disk.glob("visionloop-*"))


def test_the_ways_in_which_a_full_disk_is_told():
    assert is_disk_full(OSError(errno.ENOSPC, "No space left on device"))
    assert is_disk_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert is_disk_full(OSError("1048576 requested and 65536 written"))  # numpy
    hdf5 = "Can't write data (file write failed: time = Sun, errno = 28, error message = 'No space left on device')"
    assert is_disk_full(RuntimeError(hdf5))
    for error in (OSError(errno.EIO, "Input/output error"), ValueError("28"), KeyboardInterrupt(), None):
        assert not is_disk_full(error)
    late = ValueError("the zip file is still open")
    late.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_disk_full(late)
