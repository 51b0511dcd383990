"""The whole loop on a tiny data set, as a user runs it: DVC in a git repository of its own, MLflow's default store."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
STAGES = ["ingest", "validate", "augment", "reference", "train_cnn", "train_gan", "evaluate"]
CLASSES = ("ball", "box", "cross")

# Enough for every line of code to run, in seconds.
TINY_PARAMS = {
    "ingest": {"source": "tiny", "val_fraction": 0.2, "test_fraction": 0.25},
    "validate": {"min_images_per_class": 3},
    "augment": {"views": 2},
    "reference": {"steps": 20, "batch_size": 16},
    "cnn": {"width": 4, "epochs": 2, "batch_size": 16, "lr": 0.01},
    "gan": {"width": 8, "latent_dim": 8, "steps": 20, "batch_size": 16, "lr": 0.001, "evaluate_every": 10},
    "evaluate": {
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
    environment: dict[str, str]

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
        assert (done.returncode == 0) is ok, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)


def ran(said: str) -> list[str]:
    """The stages that DVC ran, in order."""
    return re.findall(r"Running stage '(\w+)'", said)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("pipeline") / "project"
    copy_sources(folder)
    write_tiny_images(folder / "data/raw/tiny")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for section, values in TINY_PARAMS.items():
        params[section] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "VISIONLOOP_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    project = Project(folder, ours | {"PATH": path})
    project.run("git", "init", "--quiet", "--initial-branch", "main")
    project.run("git", "config", "user.name", "Tester")
    project.run("git", "config", "user.email", "tester@example.org")
    project.commit("start")
    yield project
