"""ops.remote_checkpoints with a folder as the DVC remote."""

import os
import time
from pathlib import Path

import pytest

from ops.remote.checkpoints import RemoteCheckpoints, pushed_every
from tests.test_pipeline import Project


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The remote of a DVC repository, which is the working directory."""
    repository = Project(tmp_path / "repository")
    repository.folder.mkdir()
    repository.run("git", "init", "--quiet")
    repository.run("dvc", "init", "--quiet")
    repository.run("dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    monkeypatch.chdir(repository.folder)
    return tmp_path / "storage" / "checkpoints"


def write(key: str, step: int, text: str = "weights") -> Path:
    path = Path(f".visionloop/checkpoints/{key}/{step:012d}.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_newest_checkpoint_of_a_stage_goes_there_and_comes_back(storage: Path) -> None:
    write("train_gan-a", 16)
    write("train_gan-a", 32, "newer")
    write("train_cnn-b", 8)
    checkpoints = RemoteCheckpoints("train_gan")
    checkpoints.push()
    assert [path.relative_to(storage).as_posix() for path in storage.rglob("*.npz")] == ["train_gan-a/000000000032.npz"]
    Path(".visionloop").rename("lost")
    assert RemoteCheckpoints("train_gan").pull() == 1
    assert Path(".visionloop/checkpoints/train_gan-a/000000000032.npz").read_text() == "newer"
    assert RemoteCheckpoints("train_gan").pull() == 0  # what is here is not replaced
    assert RemoteCheckpoints("train_cnn").pull() == 0


def test_one_checkpoint_a_training_is_kept_there_and_none_when_it_is_done(storage: Path) -> None:
    checkpoints = RemoteCheckpoints("train_gan")
    other = storage / "train_gan-of-another-machine" / "000000000001.npz"
    other.parent.mkdir(parents=True)
    other.write_text("not ours")
    for step in (16, 32):
        path = write("train_gan-a", step)
        checkpoints.push()
    assert [file.name for file in (storage / "train_gan-a").iterdir()] == ["000000000032.npz"]
    checkpoints.remove_finished()
    assert (storage / "train_gan-a").exists()
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()  # as the stage does when it is done
    checkpoints.remove_finished()
    assert not (storage / "train_gan-a").exists()
    assert other.exists()


def test_what_nobody_took_up_for_a_month_is_removed(storage: Path) -> None:
    write("train_gan-a", 16)
    RemoteCheckpoints("train_gan").push()
    Path(".visionloop").rename("lost")
    [file] = storage.rglob("*.npz")
    long_ago = time.time() - 31 * 24 * 3600
    os.utime(file, (long_ago, long_ago))
    assert RemoteCheckpoints("train_gan").pull() == 0
    assert not file.exists()


def test_a_remote_that_fails_stops_nothing(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage.parent.mkdir(exist_ok=True)
    storage.write_text("a file where a folder should be")
    write("train_gan-a", 16)
    checkpoints = RemoteCheckpoints("train_gan")
    with pushed_every(0.05, checkpoints):
        time.sleep(0.5)
    assert "pushing checkpoints failed" in capsys.readouterr().out
    storage.unlink()
    with pushed_every(0.05, checkpoints):
        time.sleep(0.5)
    assert len(list(storage.rglob("*.npz"))) == 1
