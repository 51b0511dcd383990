"""Tracking, seen from both ends: what a stage records, and what MLflow holds afterwards."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stages.core.params import Params
from stages.running.checkout import main_checkout
from stages.running.terminal import UserError
from stages.running.tracking.delivery import Delivery
from stages.running.tracking.record import PRUNED, Run, pipeline_execution, stage_run
from tests.conftest import ROOT, end_sender, mlflow_client, user_environment

STAGE = """
import sys, time
from pathlib import Path
from stages.running.tracking.record import stage_run
from stages.core.params import Params
from stages.running.terminal import UserError, run_stage

class PaintParams(Params):
    width: int = 3
    colour: str = "blue"

def main():
    stage, story = sys.argv[1:]
    with stage_run(stage, PaintParams()) as run:
        run.dataset("tiny", "d" * 64, {"images": 7})
        for step in range(1, 301):
            run.metrics({"loss": 1 / step, "d_loss": -step}, step=step)
        run.tags({"mood": "calm"})
        run.artifact(Path("note.txt"), "notes")
        run.artifact(Path("pictures"))
        if story == "fails":
            raise UserError("the paint is dry")
        if story == "is killed":
            print("ready", flush=True)
            time.sleep(60)
        if story == "loses its disk":
            run.artifact(Path("missing.txt"))
            run.metrics({"loss": 0.0}, step=301)

run_stage(main)
"""


class PaintParams(Params):
    width: int = 3


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "still not"
        time.sleep(0.1)


@dataclass
class Studio:
    """A folder in which stages run that do next to nothing."""

    root: Path
    script = STAGE

    def start(self, stage: str, story: str = "ends", **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", self.script, stage, story],
            cwd=self.root,
            env=user_environment() | {"PYTHONPATH": str(ROOT)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, stage: str, story: str = "ends", ok: bool = True, **environment: str) -> str:
        """What the stage says; `ok` is whether it must succeed."""
        process = self.start(stage, story, **environment)
        said, _ = process.communicate(timeout=60)
        assert (process.returncode == 0) is ok, said
        return said

    def waiting(self) -> list[str]:
        """The stages whose records wait in the outbox."""
        return [path.name.split("-")[1] for path in sorted((self.root / ".visionloop/outbox").glob("*"))]

    def runs(self, stage: str, uri: str | None = None, experiment: str = "visionloop") -> list[Any]:
        """The MLflow runs of a stage."""
        client = mlflow_client(uri or f"sqlite:///{self.root}/mlflow.db")
        found = client.get_experiment_by_name(experiment)
        return client.search_runs([found.experiment_id], f"tags.stage = '{stage}'") if found else []


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """An MLflow server with a store of its own in `folder`; it may still be starting."""

    def __init__(self, folder: Path):
        self.folder, self.port, self.log = folder, free_port(), folder / "log"
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers=1", "--host=127.0.0.1", f"--port={self.port}"]
        stores = [f"--backend-store-uri=sqlite:///{self.folder}/it.db", f"--artifacts-destination={self.folder}/files"]
        environment = user_environment() | {"MLFLOW_DISABLE_TELEMETRY": "true"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command + stores, env=environment, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )

    def end(self, how: signal.Signals) -> None:
        os.killpg(self.process.pid, how)
        self.process.wait(timeout=20)

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=1).close()
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.2)
        raise TimeoutError(self.log.read_text())


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts first of all, and while the other tests run."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    root = tmp_path_factory.mktemp("studio")
    (root / ".dvc").mkdir()
    (root / "pictures").mkdir()
    (root / "pictures/one.txt").write_text("1")
    (root / "note.txt").write_text("a note")
    yield Studio(root)
    end_sender(root)


@pytest.fixture(scope="module")
def painted(studio: Studio) -> Any:
    """The runs of two stages that ran at the same time, in a store that was not there before."""
    both = [studio.start(stage, VISIONLOOP_PIPELINE_EXECUTION="one") for stage in ("paint", "train_frame")]
    for process in both:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert said == ""
    assert studio.waiting() == []
    runs = studio.runs("paint") + studio.runs("train_frame")
    assert len(runs) == 2
    return runs


def test_two_stages_at_the_same_time_are_both_whole(studio: Studio, painted: Any) -> None:
    client = mlflow_client(f"sqlite:///{studio.root}/mlflow.db")
    for run in painted:
        assert run.info.status == "FINISHED"
        history = sorted(client.get_metric_history(run.info.run_id, "loss"), key=lambda metric: metric.step)
        assert [(m.step, m.value) for m in history] == [(step, 1 / step) for step in range(1, 301)]


def test_what_a_stage_records_arrives(studio: Studio, painted: Any) -> None:
    paint, frame = painted
    assert paint.info.run_name.strip() == "paint"
    assert paint.data.params == {"paint.width": "3", "paint.colour": "blue"}
    assert frame.data.params == {"frame.width": "3", "frame.colour": "blue"}  # named as in params.yaml
    assert paint.data.metrics["d_loss"] == -300
    assert paint.data.metrics["system/process_memory_megabytes"] > 1
    expected = {"stage": "paint", "mood": "calm", "data_hash": "d" * 64, "pipeline_execution": "one"}
    assert expected.items() <= paint.data.tags.items()
    (data,) = paint.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.profile) == ("tiny", '{"images": 7}')
    assert Path(paint.info.artifact_uri.removeprefix("file://")).is_relative_to(studio.root / "mlartifacts")
    client = mlflow_client(f"sqlite:///{studio.root}/mlflow.db")
    files = [a.path for folder in ("notes", "pictures") for a in client.list_artifacts(paint.info.run_id, folder)]
    assert files == ["notes/note.txt", "pictures/one.txt"]


def test_a_stage_that_raises_is_failed_and_keeps_what_it_recorded(studio: Studio) -> None:
    assert studio.run("fail", "fails", ok=False) == "error: the paint is dry\n"
    (run,) = studio.runs("fail")
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == "the paint is dry"
    assert run.data.metrics["loss"] == 1 / 300


def test_a_killed_stage_is_killed_in_mlflow_too(studio: Studio) -> None:
    process = studio.start("kill", "is killed")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    studio.run("after")
    wait_until(lambda: not studio.waiting())
    (run,) = studio.runs("kill")
    assert run.info.status == "KILLED"
    assert run.data.metrics["loss"] == 1 / 300


def test_a_killed_stage_whose_sender_was_killed_too_is_settled_by_the_next_run(studio: Studio) -> None:
    process = studio.start("both", "is killed")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    wait_until(lambda: studio.runs("both"))
    end_sender(studio.root, signal.SIGKILL)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert studio.waiting() == ["both"]
    studio.run("settles")
    wait_until(lambda: not studio.waiting())
    (run,) = studio.runs("both")
    assert run.info.status == "KILLED"
    assert run.data.metrics["loss"] == 1 / 300


def test_tags_from_the_environment_are_those_of_every_run(studio: Studio) -> None:
    studio.run("clay", VISIONLOOP_TAGS='{"study": "wider", "trial": 3}')
    (run,) = studio.runs("clay")
    assert (run.data.tags["study"], run.data.tags["trial"], run.data.tags["mood"]) == ("wider", "3", "calm")
    said = studio.run("clay", ok=False, VISIONLOOP_TAGS="study=wider")
    assert "error: VISIONLOOP_TAGS is 'study=wider', expected JSON such as" in said


def test_a_pruned_stage_is_killed_tagged_and_not_resumed(studio: Studio) -> None:
    process = studio.start("glass", "is killed", VISIONLOOP_TRACKING="later")
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    (folder,) = (studio.root / ".visionloop/outbox").glob("*-glass-*")
    (folder / PRUNED).touch()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    studio.run("varnish")  # delivers it
    (run,) = studio.runs("glass")
    assert run.info.status == "KILLED"
    assert (run.data.tags["pruned"], run.data.tags["resume_key"]) == ("true", "")
    assert "error" not in run.data.tags


def test_off_records_nothing(studio: Studio) -> None:
    studio.run("off", VISIONLOOP_TRACKING="off", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert studio.waiting() == []
    assert studio.runs("off") == []


def test_later_waits_for_the_next_run_that_is_online(studio: Studio) -> None:
    end_sender(studio.root)  # nobody delivers but the second stage's own
    studio.run("first", VISIONLOOP_TRACKING="later")
    assert studio.waiting() == ["first"]
    assert studio.runs("first") == []
    studio.run("second")
    assert studio.waiting() == []
    assert [run.info.status for run in studio.runs("first") + studio.runs("second")] == ["FINISHED", "FINISHED"]


def test_a_run_for_a_server_that_is_gone_waits_and_holds_up_nobody(studio: Studio) -> None:
    studio.run("gone", VISIONLOOP_TRACKING="later", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    studio.run("beside")
    assert studio.waiting() == ["gone"]
    assert studio.runs("beside")[0].info.status == "FINISHED"
    end_sender(studio.root)
    shutil.rmtree(studio.root / ".visionloop/outbox")


def test_a_record_is_that_of_a_running_stage_until_its_process_ends(tmp_path: Path) -> None:
    folder = tmp_path / "outbox/1-one"
    run = Run(folder)
    assert Delivery(folder).stage_is_running()
    run.events.close()
    assert not Delivery(folder).stage_is_running()


def test_a_stage_continues_when_its_record_cannot_be_written(studio: Studio) -> None:
    said = studio.run("disk", "loses its disk")
    assert said.count("\n") == 1
    assert "tracking: stopped recording this run" in said
    assert studio.runs("disk")[0].data.metrics["loss"] == 1 / 300


def test_a_stage_continues_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VISIONLOOP_TRACKING", "later")
    monkeypatch.chdir(tmp_path)
    with stage_run("paint", PaintParams()) as run:
        run.events.close()
        run.events = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
        for step in range(3):
            run.metrics({"loss": 1.0}, step=step)
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_a_server_and_an_experiment_of_the_users_win(studio: Studio, painted: Any, server: Server) -> None:
    server.wait()
    studio.run("serve", MLFLOW_TRACKING_URI=server.uri, MLFLOW_EXPERIMENT_NAME="theirs")
    (run,) = studio.runs("serve", server.uri, "theirs")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["loss"] == 1 / 300
    assert [a.path for a in mlflow_client(server.uri).list_artifacts(run.info.run_id, "notes")] == ["notes/note.txt"]
    assert studio.runs("serve") == studio.runs("serve", server.uri) == []


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:9",
        "http://me:secret@127.0.0.1:9",
        "http://127.0.0.1:99999",
        "http:///5000",
        "http://mlflow.invalid:5000",
        "postgresql://me:secret@127.0.0.1:9/db",
        "postgresql://me:secret@database.invalid/db",
    ],
)
def test_an_unreachable_server_stops_a_stage_at_once(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VISIONLOOP_TRACKING", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    started = time.monotonic()
    with (
        pytest.raises(UserError, match="MLflow does not answer at MLFLOW_TRACKING_URI=") as stopped,
        stage_run("paint", PaintParams()),
    ):
        pass
    assert time.monotonic() - started < 5
    assert "secret" not in str(stopped.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["foo:bar", "http:/127.0.0.1:5000", "mlruns"])
def test_what_is_no_address_stops_a_stage_at_once(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VISIONLOOP_TRACKING", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UserError, match="expected an address"), stage_run("paint", PaintParams()):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([], "timed out"),
        ([b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n"] * 20, "timed out"),
        ([b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"], "HTTP Error 502: Bad Gateway"),
        ([b"SSH-2.0-OpenSSH\r\n"], "SSH-2.0-OpenSSH"),
    ],
    ids=["silent", "endless", "a proxy without its server", "something else"],
)
def test_an_address_without_mlflow_stops_a_stage_within_5_seconds(
    answer: list[bytes], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def speak(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.recv(1000)
            for part in answer or [b""]:
                connection.sendall(part)
                time.sleep(0.0 if len(answer) == 1 else 0.5 if answer else 5)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=speak, args=[listening], daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setenv("VISIONLOOP_TRACKING", "on")
        monkeypatch.chdir(tmp_path)
        started = time.monotonic()
        with pytest.raises(UserError, match=reason), stage_run("paint", PaintParams()):
            pass
        assert time.monotonic() - started < 5
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_mode_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONLOOP_TRACKING", "maybe")
    with (
        pytest.raises(UserError, match="VISIONLOOP_TRACKING is 'maybe', expected on, later or off"),
        stage_run("paint", PaintParams()),
    ):
        pass


def test_the_main_checkout_is_the_parent_of_a_throw_away_copy_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, stranger, copy = tmp_path / "main", tmp_path / "stranger", tmp_path / "main/.dvc/tmp/exps/standalone/x"
    for folder in (main, stranger, copy):
        (folder / ".dvc").mkdir(parents=True)
    (main / "stages").mkdir()

    monkeypatch.setenv("DVC_ROOT", str(main))
    monkeypatch.chdir(copy)
    assert main_checkout() == main
    monkeypatch.setenv("DVC_ROOT", str(stranger))
    assert main_checkout() == copy
    monkeypatch.chdir(main / "stages")
    assert main_checkout() == main
    monkeypatch.delenv("DVC_ROOT")
    assert main_checkout() == main


def test_the_pipeline_execution_is_set_from_outside_or_unique(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONLOOP_PIPELINE_EXECUTION", "night-42")
    assert pipeline_execution() == "night-42"
    monkeypatch.delenv("VISIONLOOP_PIPELINE_EXECUTION")
    assert pipeline_execution() != pipeline_execution()
