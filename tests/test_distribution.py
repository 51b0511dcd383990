"""Trainings on several replicas: real processes with a real TF_CONFIG, and several devices in one process."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bench.workers import configurations
from stages.running import launcher
from stages.running.terminal import UserError
from tests.conftest import ROOT, tiny_ingest, user_environment
from tests.test_pipeline import TINY_PARAMS, copy_sources

pytestmark = pytest.mark.slow

CASES = ["classifier", "mixing", "gan", "everything"]


def environments(count: int) -> list[dict[str, str]]:
    """What a launcher sets for each of `count` workers on this machine."""
    alone = user_environment() | {"VISIONLOOP_TRACKING": "off"}
    return [alone | {"TF_CONFIG": configuration} for configuration in configurations(count)]


def start(arguments: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def finish(processes: Sequence[subprocess.Popen[str]], seconds: float = 400) -> list[tuple[int, str]]:
    """Exit code and what was printed, of each process."""
    try:
        return [(process.communicate(timeout=seconds)[0], process.returncode)[::-1] for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Of each way to train and each case: what tests/worker.py wrote."""
    found = {}
    alone = user_environment() | {"VISIONLOOP_TRACKING": "off"}
    for name, workers, devices in (
        ("alone", [alone], 1),
        ("devices", [alone], 2),
        *((str(n), environments(n), 1) for n in (2, 4)),
    ):
        folder = tmp_path_factory.mktemp(name)
        processes = [start(["tests.worker", str(folder), str(devices)], ROOT, worker) for worker in workers]
        for code, said in finish(processes):
            assert code == 0, said
        found[name] = {case: dict(np.load(folder / f"{case}.npz")) for case in CASES}
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", ["devices", "2", "4"])
def test_replicas_end_with_the_weights_of_one_process(weights: Any, way: str, case: str) -> None:
    alone, several = weights["alone"][case], weights[way][case]
    assert alone.pop("replicas", 1) == 1
    assert several.pop("replicas") == {"devices": 2, "2": 2, "4": 4}[way]
    assert list(alone) == list(several)
    furthest = max(float(np.abs(alone[name] - several[name]).max()) for name in alone)
    print(f"{case}, {way}: weights differ by at most {furthest:.1e}")
    assert furthest < 1e-4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with tiny data, up to the reference."""
    folder = tmp_path_factory.mktemp("data")
    copy_sources(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    for section, values in TINY_PARAMS.items():
        params[section] |= values
    params["cnn"] |= {"epochs": 6, "precision": "float32", "patience": 0, "average": 0.5}
    params["gan"] |= {"steps": 400, "precision": "float32"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    tiny_ingest(folder, train=40, val=10, test=10, size=16)
    (folder / "data/validate").mkdir()
    (folder / "data/validate/passed").write_text("tiny\n")
    alone = user_environment() | {"VISIONLOOP_TRACKING": "off"}
    for stage in ("augment", "reference"):
        ((code, said),) = finish([start([f"stages.{stage}"], folder, alone)])
        assert code == 0, said
    return folder


def metrics(folder: Path, stage: str) -> dict[str, float]:
    (found,) = json.loads((folder / "data" / stage / "metrics.json").read_text()).values()
    return found


def test_a_stage_on_two_workers_ends_with_the_figures_of_one_and_its_chief_alone_writes(data: Path) -> None:
    alone = user_environment() | {"VISIONLOOP_TRACKING": "off"}
    ((code, said),) = finish([start(["stages.train_cnn"], data, alone)])
    assert code == 0, said
    expected = metrics(data, "train_cnn")
    (chief, other) = finish([start(["stages.train_cnn"], data, worker) for worker in environments(2)])
    assert chief[0] == other[0] == 0, chief[1] + other[1]
    assert "classifier: " in chief[1]
    assert other[1] == ""
    found = metrics(data, "train_cnn")
    assert found["val_accuracy"] == expected["val_accuracy"]
    assert found["val_nll"] == pytest.approx(expected["val_nll"], abs=1e-3)
    assert not list((data / "data").glob(".*.partial"))


def wait_for(condition: Any, seconds: float, processes: Sequence[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, [process.poll() for process in processes]
        time.sleep(0.02)


@pytest.mark.parametrize("killed", ["chief", "other"])
def test_a_killed_worker_stops_the_others_with_a_word_and_the_next_run_goes_on(data: Path, killed: str) -> None:
    workers = [each | {"VISIONLOOP_CHECKPOINT_SECONDS": "0"} for each in environments(2)]
    processes = [start(["stages.train_gan"], data, worker) for worker in workers]
    victim = ["chief", "other"].index(killed)
    wait_for(lambda: list(data.glob(".visionloop/checkpoints/train_gan-*/*.npz")), 200, processes)
    processes[victim].send_signal(signal.SIGKILL)
    outcome = finish(processes, 120)
    assert outcome[victim][0] == -signal.SIGKILL
    code, said = outcome[1 - victim]
    assert code == 1, said
    assert re.search(
        r"error: a worker of this training was lost, .*run `dvc repro` to resume from the last checkpoint", said
    )
    assert not (data / "data/train_gan").exists()

    processes = [start(["stages.train_gan"], data, worker) for worker in environments(2)]
    chief, other = finish(processes)
    assert chief[0] == other[0] == 0, chief[1] + other[1]
    assert re.search(r"train gan: resuming at step \d+ of 400", chief[1]), chief[1]
    assert other[1] == ""  # the chief alone says how it goes
    assert metrics(data, "train_gan")["val_fd"] > 0
    shutil.rmtree(data / "data/train_gan")


def test_asked_to_stop_all_workers_stop_together_after_saving(data: Path) -> None:
    workers = [each | {"VISIONLOOP_CHECKPOINT_SECONDS": "0"} for each in environments(2)]
    processes = [start(["stages.train_gan"], data, worker) for worker in workers]
    wait_for(lambda: list(data.glob(".visionloop/checkpoints/train_gan-*/*.npz")), 200, processes)
    processes[1].send_signal(signal.SIGTERM)  # one of them is enough
    for code, said in finish(processes, 120):
        assert code == 130, said
        assert re.search(r"interrupted: saved after step \d+ of 400", said)


def test_a_batch_that_cannot_be_shared_evenly_is_named(data: Path) -> None:
    odd = data / "params.yaml"
    before = odd.read_text()
    odd.write_text(before.replace("batch_size: 16", "batch_size: 15"))
    outcome = finish([start(["stages.train_cnn"], data, worker) for worker in environments(2)])
    odd.write_text(before)
    for code, said in outcome:
        assert code == 1
        assert said.startswith("error: cnn.batch_size is 15, which 2 replicas"), said


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_a_tf_config_that_cannot_be_read_is_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=re.escape(f"TF_CONFIG is {text!r}, expected a cluster of `worker`")):
        launcher.is_chief()


def test_the_chief_is_the_first_of_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    assert launcher.is_chief()
    hosts = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    for kind, index, expected in (("chief", 0, True), ("worker", 0, False), ("worker", 1, False)):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": hosts, "task": {"type": kind, "index": index}}))
        assert launcher.is_chief() == expected
    monkeypatch.setenv(
        "TF_CONFIG", json.dumps({"cluster": {"worker": ["b:1"]}, "task": {"type": "worker", "index": 0}})
    )
    assert launcher.tf_config() == {}  # one worker is none of several
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    for rank, expected in (("0", True), ("1", False)):
        monkeypatch.setenv("SLURM_PROCID", rank)
        assert launcher.is_chief() == expected


class Slurm:
    """munge, slurmctld and slurmd of this machine, with everything they write in one folder."""

    def __init__(self, folder: Path):
        self.folder, self.name = folder, socket.gethostname().split(".")[0]
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Slurm":
        key, munge = self.folder / "munge.key", self.folder / "munge"
        munge.mkdir(mode=0o755)
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        ports = [free_port() for _ in range(2)]
        (self.folder / "state").mkdir()
        configuration = self.folder / "slurm.conf"
        configuration.write_text(
            f"""ClusterName=tests
SlurmctldHost={self.name}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={munge}/socket
CryptoType=crypto/munge
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd.pid
SlurmctldLogFile={self.folder}/slurmctld.log
SlurmdLogFile={self.folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
ReturnToService=2
NodeName={self.name} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN
PartitionName=all Nodes={self.name} Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""
        )
        self.environment = {"SLURM_CONF": str(configuration)}
        options = ["--key-file", str(key), "--socket", f"{munge}/socket", "--pid-file", f"{munge}/pid"]
        options += ["--log-file", f"{munge}/log", "--seed-file", f"{munge}/seed"]
        self.run("munged", "--foreground", "--force", *options)
        self.run("slurmctld", "-D", "-f", str(configuration))
        self.run("slurmd", "-D", "-f", str(configuration), "-N", self.name)
        deadline = time.monotonic() + 60
        command = ["sinfo", "--noheader", "--format=%T"]
        while self.output(command) != "idle\n":
            assert time.monotonic() < deadline, self.output(["scontrol", "show", "node"])
            time.sleep(0.5)
        return self

    def run(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("wb") as said:
            environment = {**os.environ, **self.environment}
            self.processes.append(subprocess.Popen(command, env=environment, stdout=said, stderr=said))

    def output(self, command: Sequence[str]) -> str:
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            process.terminate()
            process.wait(30)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.skipif(
    not Path("/usr/sbin/slurmctld").exists() or os.geteuid() != 0, reason="no Slurm, or no right to start one"
)
def test_dvc_repro_on_slurm_trains_in_two_tasks_and_does_the_rest_where_it_was(data: Path, tmp_path: Path) -> None:
    expected = metrics(data, "train_cnn")
    shutil.rmtree(data / "data/train_cnn")
    shutil.rmtree(data / "data/augment")
    with Slurm(tmp_path) as slurm:
        environment = user_environment() | slurm.environment
        environment |= {"VISIONLOOP_TRACKING": "off", "LAUNCH": "srun --ntasks=2 --overcommit"}
        for command in (["git", "init", "-q"], ["dvc", "repro", "--single-item", "augment", "train_cnn"]):
            done = subprocess.run(command, cwd=data, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        jobs = slurm.output(["scontrol", "show", "jobs", "--oneliner"]).strip().splitlines()
    assert len(jobs) == 1  # augment needed none
    assert "NumTasks=2" in jobs[0]
    assert "JobState=COMPLETED" in jobs[0]
    assert done.stdout.count("classifier: ") == 1
    found = metrics(data, "train_cnn")
    assert found["val_accuracy"] == expected["val_accuracy"]
    assert found["val_nll"] == pytest.approx(expected["val_nll"], abs=1e-3)
