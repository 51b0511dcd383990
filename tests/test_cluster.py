"""Ingest, validate and augment on a real Dask cluster of two workers, one of which is killed in the middle: the bytes
are those of this process alone."""

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from stages import augment, ingest, validate
from stages.augmentation import views
from stages.core.dataset import digest, shard_paths
from stages.ingestion import shards, survey
from stages.running.terminal import Progress
from stages.validation import tables
from tests.dask_processes import DaskProcesses, dask_processes


def write_archive(path: Path) -> None:
    """A zip of 1,200 images of two classes, a few of them twice."""
    random = np.random.default_rng(0)
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(1200):
            image = random.integers(0, 256, (16, 16), np.uint8) if index % 100 else np.full((16, 16), 9, np.uint8)
            archive.writestr(f"{'ab'[index % 2]}/{index:05d}.png", cv2.imencode(".png", image)[1].tobytes())


def run_stages() -> dict[str, str]:
    """The digest of what each stage writes."""
    for stage in (ingest, validate, augment):
        stage.main()
    return {name: digest(Path("data") / name) for name in ("ingest", "validate", "augment")}


def test_the_bytes_are_those_of_one_process_although_a_worker_is_killed_in_each_stage(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(project / "data/raw/noise.zip")
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["ingest"] |= {"source": "noise.zip", "shard_mib": 1}
    params["augment"]["views"] = 12
    params["validate"] |= {"max_duplicates": 0.2, "max_two_labels": 1}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    alone = run_stages()

    monkeypatch.setattr(survey, "CHUNK_PIXELS", 16 * 16 * 20)  # 20 images at a time, 60 chunks
    for module in (shards, views, tables):
        monkeypatch.setattr(module, "SMALL", 0)
    with dask_processes(tmp_path_factory.mktemp("dask"), workers=2) as processes:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", processes.address)
        killed = kill_in_the_middle(processes, monkeypatch)
        assert run_stages() == alone
    assert killed == ["decode", "read", "augment"]
    assert not [path for path in Path("data").rglob("*") if "partial" in path.name or path.name.startswith(".")]


def kill_in_the_middle(processes: DaskProcesses, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kills a worker after the third chunk of each progress bar, and starts another one for the next. Returns the names
    of the bars, as they come."""
    killed: list[str] = []
    advance, enter = Progress.advance, Progress.__enter__
    calls = 0

    def count(self: Progress) -> Progress:
        nonlocal calls
        calls = 0
        if len(processes.workers) < 2:
            processes.start_workers(1)
        return enter(self)

    def kill(self: Progress, count: int = 1) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            killed.append(self.label)
            processes.kill_worker()
        advance(self, count)

    monkeypatch.setattr(Progress, "__enter__", count)
    monkeypatch.setattr(Progress, "advance", kill)
    return killed


def test_augment_leaves_nothing_behind_that_is_not_a_view(project: Path) -> None:
    write_archive(project / "data/raw/noise.zip")
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["ingest"]["source"] = "noise.zip"
    params["validate"] |= {"max_duplicates": 0.2, "max_two_labels": 1}
    params["augment"]["views"] = 2
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    run_stages()
    names = sorted(path.name for path in Path("data/augment").iterdir())
    assert names == ["before_after.png", "view-00", "view-01"]
    assert json.loads(Path("data/ingest/classes.json").read_text()) == ["a", "b"]
    assert len(shard_paths("data/augment/view-01", "train")) == 1
