"""Tracking while its store dies, refuses, hangs or is locked: training continues, and nothing recorded is lost."""

import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from signal import SIGKILL, SIGTERM
from subprocess import Popen
from typing import Any

import pytest

from tests.conftest import end_sender, mlflow_client
from tests.running.test_tracking import Server, Studio, wait_until

pytestmark = pytest.mark.slow

LONGEST_END_SECONDS = 15.0  # 10 of patience, and a machine that has other things to do

# Records ten times a second until it is asked to end.
LONG_STAGE = """
import sys, time
from pathlib import Path
from stages.running.tracking.record import stage_run
from stages.core.params import Params
from stages.running.terminal import run_stage

class PaintParams(Params):
    width: int = 3

def main():
    stage, step = sys.argv[1], 0
    with stage_run(stage, PaintParams()) as run:
        run.artifact(Path("note.txt"))
        while not Path(f"{stage}.stop").exists():
            step += 1
            run.metrics({"loss": 1 / step, "d_loss": -step}, step=step)
            time.sleep(0.1)
        run.artifact(Path("pictures"))
        run.tags({"steps": str(step)})

run_stage(main)
"""


class Atelier(Studio):
    """A studio whose stages last as long as the test wants."""

    script = LONG_STAGE

    def stop(self, stage: str, process: Popen) -> tuple[str, float]:
        """What a stage says, and the seconds that it takes to end."""
        asked = time.monotonic()
        (self.root / f"{stage}.stop").touch()
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        return said, time.monotonic() - asked

    def assert_whole(self, stage: str, uri: str | None = None) -> None:
        """One run, finished, with each metric of each step once, and its artifacts."""
        (run,) = self.runs(stage, uri)
        client = mlflow_client(uri or f"sqlite:///{self.root}/mlflow.db")
        assert run.info.status == "FINISHED"
        assert run.data.params == {f"{stage}.width": "3"}
        steps = int(run.data.tags["steps"])
        for name, value in (("loss", lambda step: 1 / step), ("d_loss", lambda step: -step)):
            history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda metric: metric.step)
            assert [(m.step, m.value) for m in history] == [(step, value(step)) for step in range(1, steps + 1)]
        assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"note.txt", "pictures"}

    def metrics(self, stage: str, uri: str | None = None) -> int:
        """The steps of a stage that MLflow has by now."""
        return sum(int(run.data.metrics.get("d_loss", 0)) for run in self.runs(stage, uri)) * -1

    def wait_for_more(self, stage: str, uri: str) -> None:
        """Returns when MLflow has more of a stage than now."""
        before = self.metrics(stage, uri)
        wait_until(lambda: self.metrics(stage, uri) > before + 10)


@pytest.fixture
def atelier(tmp_path: Path) -> Iterator[Atelier]:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/one.txt").write_text("1")
    (tmp_path / "note.txt").write_text("a note")
    yield Atelier(tmp_path)
    end_sender(tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.end(SIGTERM)


class Gate:
    """Stands before an MLflow server, and does with its requests what `mood` says."""

    def __init__(self, server: Server):
        self.mood, self.refused, self.lost = "open", 0, list[str]()
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                mood = gate.mood
                if mood == "hangs":
                    time.sleep(60)
                    return
                if mood in ("403", "500") or (mood == "password" and "Basic bWU6cmlnaHQ=" not in self.headers.values()):
                    gate.refused += 1
                    self.send_error(int(mood) if mood.isdigit() else 401)
                    return
                asked = urllib.request.Request(server.uri + self.path, body or None, method=self.command)
                asked.add_header("Content-Type", self.headers.get("Content-Type", "application/json"))
                try:
                    with urllib.request.urlopen(asked) as answer:
                        status, content = answer.status, answer.read()
                except urllib.error.HTTPError as error:
                    status, content = error.code, error.read()
                asked_for = self.path.rpartition("/")[2]
                if mood == "deaf" and asked_for in ("create", "log-batch") and asked_for not in gate.lost:
                    gate.lost.append(asked_for)  # done, but who asked never learns it
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = answer

            def log_message(self, *_: Any) -> None:
                pass

        self.listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.listening.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.listening.server_port}"


@pytest.fixture
def gate(server: Server) -> Iterator[Gate]:
    server.wait()
    gate = Gate(server)
    threading.Thread(target=gate.listening.serve_forever, daemon=True).start()
    yield gate
    gate.listening.shutdown()
    gate.listening.server_close()


def test_a_store_that_another_process_locks_for_25_seconds(atelier: Atelier, server: Server) -> None:
    """In the middle of one stage, and over the end of another."""
    through, over = atelier.start("through"), atelier.start("over")
    # Not by a look into the store: two processes that make it at the same time hinder each other.
    wait_until(lambda: len(list(atelier.root.glob(".visionloop/outbox/*/delivered.json"))) == 2)
    wait_until(lambda: all(map(atelier.metrics, ("through", "over"))))
    with closing(sqlite3.connect(atelier.root / "mlflow.db", timeout=20, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        locked = time.monotonic()
        time.sleep(1)
        said, seconds = atelier.stop("over", over)
        assert seconds < LONGEST_END_SECONDS
        assert_one_warning(said)
        time.sleep(25 - (time.monotonic() - locked))
        other.execute("ROLLBACK")
    said, _ = atelier.stop("through", through)
    wait_until(lambda: not atelier.waiting())
    for stage in ("through", "over"):
        atelier.assert_whole(stage)


def test_a_server_that_is_killed_and_started_again_while_stages_run(atelier: Atelier, server: Server) -> None:
    server.wait()
    first = atelier.start("first", MLFLOW_TRACKING_URI=server.uri)
    wait_until(lambda: atelier.metrics("first", server.uri))
    server.end(SIGKILL)
    time.sleep(2)
    server.start()
    server.wait()
    atelier.wait_for_more("first", server.uri)
    assert first.poll() is None
    assert atelier.stop("first", first)[0] == ""
    atelier.assert_whole("first", server.uri)

    second = atelier.start("second", MLFLOW_TRACKING_URI=server.uri)
    wait_until(lambda: atelier.metrics("second", server.uri))
    server.end(SIGKILL)
    time.sleep(2)
    said, seconds = atelier.stop("second", second)
    assert seconds < LONGEST_END_SECONDS
    assert_one_warning(said)
    assert atelier.waiting() == ["second"]
    end_sender(atelier.root)  # nobody delivers but the next stage's own
    server.start()
    server.wait()
    third = atelier.start("third", MLFLOW_TRACKING_URI=server.uri)
    wait_until(lambda: atelier.metrics("third", server.uri))
    assert atelier.stop("third", third)[0] == ""
    wait_until(lambda: not atelier.waiting())
    for stage in ("second", "third"):
        atelier.assert_whole(stage, server.uri)


def test_a_server_that_refuses_for_a_while(atelier: Atelier, server: Server, gate: Gate) -> None:
    process = atelier.start("refused", MLFLOW_TRACKING_URI=gate.uri)
    wait_until(lambda: atelier.metrics("refused", server.uri))
    for mood in ("500", "403"):
        gate.mood, gate.refused = mood, 0
        wait_until(lambda: gate.refused)
        gate.mood = "open"
        atelier.wait_for_more("refused", server.uri)
    assert atelier.stop("refused", process)[0] == ""
    atelier.assert_whole("refused", server.uri)


def test_answers_that_are_lost_double_nothing(atelier: Atelier, server: Server, gate: Gate) -> None:
    process = atelier.start("deaf", MLFLOW_TRACKING_URI=gate.uri)
    with mood(gate, "deaf"):
        wait_until(lambda: len(gate.lost) == 2)
    wait_until(lambda: atelier.metrics("deaf", server.uri) > 20)
    atelier.stop("deaf", process)
    wait_until(lambda: not atelier.waiting())
    atelier.assert_whole("deaf", server.uri)


def test_a_server_that_hangs_does_not_hold_up_the_end_of_a_stage(atelier: Atelier, server: Server, gate: Gate) -> None:
    process = atelier.start("hung", MLFLOW_TRACKING_URI=gate.uri)
    wait_until(lambda: atelier.metrics("hung", server.uri))
    with mood(gate, "hangs"):
        time.sleep(1)
        said, seconds = atelier.stop("hung", process)
        assert seconds < LONGEST_END_SECONDS
        assert_one_warning(said)
    end_sender(atelier.root)
    after = atelier.start("after", MLFLOW_TRACKING_URI=gate.uri)
    assert atelier.stop("after", after)[0] == ""
    wait_until(lambda: not atelier.waiting())
    for stage in ("hung", "after"):
        atelier.assert_whole(stage, server.uri)


def test_a_password_mended_between_two_runs_serves_both(atelier: Atelier, server: Server, gate: Gate) -> None:
    with mood(gate, "password"):
        login = {"MLFLOW_TRACKING_URI": gate.uri, "MLFLOW_TRACKING_USERNAME": "me"}
        wrong = atelier.start("wrong", **login, MLFLOW_TRACKING_PASSWORD="wrong")
        said, seconds = atelier.stop("wrong", wrong)
        assert seconds < LONGEST_END_SECONDS
        assert_one_warning(said)
        right = atelier.start("right", **login, MLFLOW_TRACKING_PASSWORD="right")
        assert atelier.stop("right", right)[0] == ""
    wait_until(lambda: not atelier.waiting())
    for stage in ("wrong", "right"):
        atelier.assert_whole(stage, server.uri)


@contextmanager
def mood(gate: Gate, name: str) -> Iterator[None]:
    gate.mood = name
    yield
    gate.mood = "open"


def assert_one_warning(said: str) -> None:
    assert said.count("\n") == 1
    assert said.startswith("  tracking: MLflow did not accept all of this run; it waits in ")
