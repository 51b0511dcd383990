"""ops.setup: which extras a machine and its remotes call for."""

import sys
from pathlib import Path

import pytest

from ops.dev.setup import extras


@pytest.fixture
def without_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def write_config(folder: Path, *urls: str) -> Path:
    remotes = "".join(f"['remote \"r{k}\"']\n    url = {url}\n" for k, url in enumerate(urls))
    (folder / "config").write_text(f"[core]\n    remote = r0\n{remotes}")
    return folder / "config"


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ([], []),
        (["/mnt/storage"], []),
        (["s3://bucket/path"], ["s3"]),
        (["gs://bucket"], ["gs"]),
        (["azure://container/path", "ssh://host/path"], ["azure", "ssh"]),
    ],
)
def test_each_remote_brings_its_extra(without_gpu: Path, urls: list[str], expected: list[str]) -> None:
    assert extras(write_config(without_gpu, *urls)) == expected


@pytest.mark.parametrize(("code", "expected"), [(0, ["gpu"]), (9, [])])
def test_the_gpu_extra_needs_a_driver_that_answers(without_gpu: Path, code: int, expected: list[str]) -> None:
    program = without_gpu / "nvidia-smi"
    program.write_text(f"#!{sys.executable}\nprint('GPU 0: here')\nraise SystemExit({code})\n")
    program.chmod(0o755)
    assert extras(write_config(without_gpu)) == expected
