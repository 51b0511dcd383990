"""Fixtures that several tests share."""

import hashlib
import json
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.core.dataset import SCHEMA, SPLITS, ShardWriter

ROOT = Path(__file__).parents[1]

# A shell's script starts what runs in its background with Ctrl-C ignored, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def tiny_ingest(
    project: Path,
    *,
    classes: Sequence[str] = ("ball", "box", "cup"),
    train: int = 12,
    val: int = 4,
    test: int = 4,
    size: int = 12,
    channels: int = 1,
    shard_mib: float = 1,
    seed: int = 0,
) -> Path:
    """Writes a valid data set to `project`/data/ingest as the ingest stage would, and returns that folder.

    Every class has its own grey level and a bright stripe whose place differs between classes, under noise, so that
    a network can learn them. train, val and test count the images of each class.
    """
    folder = project / "data" / "ingest"
    folder.mkdir(parents=True)
    generator, rows = np.random.default_rng(seed), list[dict[str, object]]()
    for split, per_class in zip(SPLITS, (train, val, test), strict=True):
        labels = np.tile(np.arange(len(classes)), per_class)
        images = generator.integers(0, 60, (len(labels), size, size, channels), dtype=np.uint8)
        for k, (image, label) in enumerate(zip(images, labels, strict=True)):
            stripe = label * size // len(classes)
            image[:, stripe : stripe + 2] += np.uint8(180)
            rows.append(
                {
                    "id": len(rows),
                    "source": f"{split}/{classes[label]}/{k:05d}.png",
                    "label": int(label),
                    "class": classes[label],
                    "split": split,
                    "sha256": hashlib.sha256(image.tobytes()).hexdigest(),
                    "width": size,
                    "height": size,
                    "mode": "L" if channels == 1 else "RGB",
                    "mean": float(image.mean()),
                    "std": float(image.std()),
                    "reason": None,
                }
            )
        writer = ShardWriter(folder, split, shard_mib)
        writer.append(images)
        writer.close()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "manifest.parquet")
    (folder / "classes.json").write_text(json.dumps(list(classes)), encoding="utf-8")
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project in a temporary folder as the working directory: the default params.yaml, nothing tracked."""
    monkeypatch.setenv("VISIONLOOP_TRACKING", "off")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SET_BY_OTHERS = ("DVC_", "MLFLOW_", "VISIONLOOP_", "GITHUB_", "ACTIONS_")


@pytest.fixture(autouse=True)
def outside_of_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests are of what a user runs, also where CI runs the tests."""
    for name in [name for name in os.environ if name == "CI" or name.startswith(("GITHUB_", "ACTIONS_"))]:
        monkeypatch.delenv(name)


def user_environment() -> dict[str, str]:
    """The environment of somebody who has set nothing, with this Python and its programs first on the PATH."""
    ours = {key: value for key, value in os.environ.items() if key != "CI" and not key.startswith(SET_BY_OTHERS)}
    return ours | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def mlflow_client(uri: str) -> Any:
    """Reads what is at a tracking URI."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow warns of when it loads its stores is not ours to mend
        import mlflow

        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
    return client


def end_sender(root: Path, how: signal.Signals = signal.SIGTERM) -> None:
    """Ends the process that delivers the outbox of the project at `root`, which would wait a while for more."""
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [])[1:] == ["-m", "stages.running.tracking.delivery", str(root)]:
            process.send_signal(how)
