"""A training that is killed goes on where it was, and ends with the bytes of one that was not.

Every attempt is a process forked from one that has imported TensorFlow and done nothing with it: importing it anew for
each of 20 attempts would take minutes.
"""

import hashlib
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import tiny_ingest, user_environment
from tests.test_pipeline import TINY_PARAMS, copy_sources

pytestmark = pytest.mark.slow

STEPS = 320

# Reads commands, one JSON list a line: [stage, seconds after which to send the signal (or null), signal, environment].
# Answers with the exit code (negative for a signal) and what the stage printed.
FORKER = """
import json, os, runpy, signal, sys, tempfile, time
import numpy, pyarrow.parquet, scipy.spatial.distance, PIL.Image, pydantic, matplotlib.figure
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow, keras
print("ready", flush=True)
for line in sys.stdin:
    stage, seconds, number, environment = json.loads(line)
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.environ.update(environment)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            code = 1
            try:
                sys.argv = [stage]
                runpy.run_module(f"stages.{stage}", run_name="__main__")
                code = 0
            except SystemExit as end:
                code = end.code
            except BaseException:
                import traceback
                traceback.print_exc()
            sys.stdout.flush()
            os._exit(code or 0)
        deadline = time.monotonic() + (seconds if seconds is not None else 1e9)
        sent = False
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if not sent and time.monotonic() >= deadline:
                os.kill(child, number)
                sent = True
            time.sleep(0.005)
        said.seek(0)
        print(json.dumps([os.waitstatus_to_exitcode(status), said.read().decode(), sent]), flush=True)
"""


class Trainer:
    """A project with tiny data, whose stages run in forks."""

    def __init__(self, folder: Path):
        self.folder = folder
        copy_sources(folder)
        params = yaml.safe_load((folder / "params.yaml").read_text())
        for section, values in TINY_PARAMS.items():
            params[section] |= values
        params["gan"] |= {"steps": STEPS, "evaluate_every": 64, "average": 0.9, "arch": "article", "loss": "bce"}
        params["cnn"] |= {"epochs": 40, "patience": 0}
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        (folder / ".dvc").mkdir(exist_ok=True)
        tiny_ingest(folder, train=40, val=10, test=10, size=16)
        environment = user_environment() | {"VISIONLOOP_TRACKING": "off"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKER],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"
        (folder / "data/validate").mkdir()
        (folder / "data/validate/passed").write_text("tiny\n")
        assert self.run("augment")[0] == 0
        assert self.run("reference")[0] == 0

    def run(
        self, stage: str, after: float | None = None, number: int = signal.SIGKILL, **environment: str
    ) -> tuple[int, str, bool]:
        """Exit code, what was printed, and whether the signal was sent `after` seconds, before the stage ended."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([stage, after, int(number), environment]) + "\n")
        self.process.stdin.flush()
        code, said, sent = json.loads(self.process.stdout.readline())
        return code, said, sent

    def hashes(self, stage: str) -> dict[str, str]:
        files = [path for path in (self.folder / "data" / stage).rglob("*") if path.is_file()]
        return {str(p.relative_to(self.folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    def checkpoints(self, stage: str) -> list[Path]:
        return sorted(self.folder.glob(f".visionloop/checkpoints/{stage}-*/*.npz"))


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    trainer = Trainer(tmp_path_factory.mktemp("trainer"))
    yield trainer
    trainer.process.communicate()


@pytest.fixture(scope="module")
def undisturbed(trainer: Trainer) -> dict[str, tuple[float, dict[str, str]]]:
    """Per stage: seconds it takes when nothing happens, and the hashes of what it writes."""
    found = {}
    for stage in ("train_cnn", "train_gan"):
        started = time.monotonic()
        code, said, _ = trainer.run(stage, VISIONLOOP_CHECKPOINT_SECONDS="0")
        assert code == 0, said
        assert trainer.checkpoints(stage) == []
        found[stage] = time.monotonic() - started, trainer.hashes(stage)
    return found


def disturb(
    trainer: Trainer, seconds: float, number: int, reached: Callable[[int, str], bool], **environment: str
) -> str:
    """Sends train_gan a signal after about so many seconds, until it came when it was to; what was said then."""
    for _ in range(30):  # how long it takes depends on what else the machine does
        code, said, _ = trainer.run("train_gan", seconds, number, **environment)
        if reached(code, said):
            return said
        assert code in (0, 130, -signal.SIGKILL), said
        seconds *= 0.8 if code == 0 else 1.1
    raise AssertionError(f"the signal never came at the right moment; at last: {said}")


def kill_until_done(trainer: Trainer, stage: str, kills: int, seconds: float, seed: int) -> tuple[int, int]:
    """Kills a stage at random moments until it was killed `kills` times, then lets it end: kills, and resumptions."""
    moments, killed, resumed = random.Random(seed), 0, 0
    while killed < kills:
        code, said, _ = trainer.run(stage, moments.uniform(0.3, 1.0) * seconds, VISIONLOOP_CHECKPOINT_SECONDS="0")
        assert code in (0, -signal.SIGKILL), said
        killed += code != 0
        seconds *= 0.9 if code == 0 else 1  # it was faster than when it was timed
        resumed += "resuming at step" in said
    code, said, _ = trainer.run(stage, VISIONLOOP_CHECKPOINT_SECONDS="0")
    assert code == 0, said
    return killed, resumed + ("resuming at step" in said)


def test_an_undisturbed_training_gives_the_same_bytes_without_checkpoints(trainer: Trainer, undisturbed: Any) -> None:
    code, said, _ = trainer.run("train_gan", VISIONLOOP_CHECKPOINT_SECONDS="1e9")
    assert code == 0, said
    assert trainer.hashes("train_gan") == undisturbed["train_gan"][1]


@pytest.mark.parametrize(("stage", "kills"), [("train_gan", 12), ("train_cnn", 8)])
def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    trainer: Trainer, undisturbed: Any, stage: str, kills: int
) -> None:
    seconds, expected = undisturbed[stage]
    killed, resumed = kill_until_done(trainer, stage, kills, seconds, seed=kills)
    print(f"{stage}: killed {killed} times, taken up {resumed} times")
    assert resumed > 0
    assert trainer.hashes(stage) == expected
    assert [path for path in trainer.folder.glob(".visionloop/checkpoints/*") if path.is_dir()] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(trainer: Trainer, undisturbed: Any, number: int) -> None:
    seconds, expected = undisturbed["train_gan"]
    said = disturb(
        trainer,
        0.8 * seconds,
        number,
        lambda code, said: code == 130 and "saved after" in said,
        VISIONLOOP_CHECKPOINT_SECONDS="1e9",
    )
    assert re.search(rf"interrupted: saved after step \d+ of {STEPS}: run `dvc repro` to resume", said), said
    assert len(trainer.checkpoints("train_gan")) == 1
    code, said, _ = trainer.run("train_gan")
    assert code == 0, said
    assert "resuming at step" in said
    assert trainer.hashes("train_gan") == expected


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(
    trainer: Trainer, undisturbed: Any, damage: str
) -> None:
    seconds, expected = undisturbed["train_gan"]
    disturb(
        trainer,
        0.8 * seconds,
        signal.SIGKILL,
        lambda code, said: len(trainer.checkpoints("train_gan")) == 2,
        VISIONLOOP_CHECKPOINT_SECONDS="0",
    )
    newest = trainer.checkpoints("train_gan")[-1]
    content = bytearray(newest.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    newest.write_bytes(bytes({"cut": content[: len(content) // 2], "flipped": content, "empty": b""}[damage]))
    code, said, _ = trainer.run("train_gan")
    assert code == 0, said
    assert f"checkpoint {newest.name} is damaged" in said
    assert "resuming at step" in said
    assert trainer.hashes("train_gan") == expected


def test_a_changed_param_takes_up_no_other_checkpoint(trainer: Trainer, undisturbed: Any) -> None:
    seconds, _ = undisturbed["train_gan"]
    disturb(
        trainer,
        0.8 * seconds,
        signal.SIGKILL,
        lambda code, said: bool(trainer.checkpoints("train_gan")),
        VISIONLOOP_CHECKPOINT_SECONDS="0",
    )
    params = trainer.folder / "params.yaml"
    before = params.read_text()
    params.write_text(re.sub(r"(gan:(?:\n  .*)*\n  lr: ).*", r"\g<1>0.002", before))
    assert params.read_text() != before
    code, said, _ = trainer.run("train_gan")
    params.write_text(before)
    assert code == 0, said
    assert "going on" not in said
    assert trainer.checkpoints("train_gan")
    assert trainer.run("train_gan")[0] == 0
    assert not trainer.checkpoints("train_gan")


def test_a_second_trainer_of_the_same_thing_waits(trainer: Trainer, undisturbed: Any) -> None:
    _, expected = undisturbed["train_cnn"]
    environment = user_environment() | {"VISIONLOOP_TRACKING": "off"}
    command = [sys.executable, "-m", "stages.train_cnn"]
    first, second = (
        subprocess.Popen(
            command, cwd=trainer.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    )
    said = sorted([first.communicate()[0], second.communicate()[0]], key=len)
    assert first.returncode == second.returncode == 0, said
    assert "waiting for it" in said[1]
    assert "waiting for it" not in said[0]
    assert trainer.hashes("train_cnn") == expected


def test_the_interval_must_be_a_number(trainer: Trainer) -> None:
    code, said, _ = trainer.run("train_cnn", VISIONLOOP_CHECKPOINT_SECONDS="soon")
    assert code == 1
    assert said == "error: VISIONLOOP_CHECKPOINT_SECONDS is 'soon', expected a number of seconds\n"
