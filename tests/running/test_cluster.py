"""Chunks on a Dask cluster: order, lost workers, changed code, and what is said when something is missing."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.running.cluster import ROOT, check_worker, installed_packages, stages_digest
from stages.running.parallel import ordered_map
from stages.running.terminal import UserError
from tests.dask_processes import DaskProcesses, dask_processes


def slow_square(number: int) -> tuple[int, int]:
    """The square, and the process that it was computed in."""
    time.sleep(0.02)
    return number**2, os.getpid()


def end_process(number: int) -> None:
    os._exit(1)


def refuse(number: int) -> None:
    raise UserError(f"{number} is refused")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    with dask_processes(tmp_path_factory.mktemp("dask"), workers=2) as processes:
        yield processes


@pytest.fixture(autouse=True)
def no_cluster_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)


def use(monkeypatch: pytest.MonkeyPatch, address: str, seconds: float = 30) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    monkeypatch.setenv("VISIONLOOP_WORKERS_SECONDS", str(seconds))


def test_results_come_in_order_from_the_workers_and_little_is_in_flight(cluster, monkeypatch):
    use(monkeypatch, cluster.address)
    taken = 0

    def numbers():
        nonlocal taken
        while taken < 60:
            yield taken
            taken += 1

    results = ordered_map(slow_square, numbers())
    found = [next(results)]
    assert taken <= 6
    found += results
    assert [square for square, _ in found] == [number**2 for number in range(60)]
    assert {process for _, process in found} <= {worker.pid for worker in cluster.workers}


def test_a_number_of_workers_means_this_machine(cluster, monkeypatch):
    use(monkeypatch, cluster.address)
    assert list(ordered_map(slow_square, [3], workers=1)) == [(9, os.getpid())]


def test_an_error_of_a_task_is_raised_here(cluster, monkeypatch):
    use(monkeypatch, cluster.address)
    with pytest.raises(UserError, match=r"^7 is refused$"):
        list(ordered_map(refuse, [7]))


def test_a_killed_worker_costs_its_tasks_only(tmp_path, monkeypatch):
    with dask_processes(tmp_path, workers=2) as processes:
        use(monkeypatch, processes.address)
        results = ordered_map(slow_square, range(200))
        found = [next(results) for _ in range(50)]
        assert {process for _, process in found} == {worker.pid for worker in processes.workers}
        processes.kill_worker()
        found += results
        assert [square for square, _ in found] == [number**2 for number in range(200)]
        assert {process for _, process in found[-50:]} == {processes.workers[0].pid}


def test_a_worker_that_outlives_a_change_of_the_code_runs_the_new_code(cluster, tmp_path):
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    script = (
        "from stages import probe; from stages.running.parallel import ordered_map; "
        "print(list(ordered_map(probe.answer, range(8))))"
    )
    environment = os.environ | {"DASK_SCHEDULER_ADDRESS": cluster.address, "PYTHONPATH": str(tmp_path)}
    for answer in ("before", "after!"):  # as many bytes, and maybe in the same second
        (tmp_path / "stages/probe.py").write_text(f"def answer(number): return {answer!r}\n")
        shutil.rmtree(tmp_path / "stages/__pycache__", ignore_errors=True)
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == f"{[answer] * 8}\n"


def test_no_scheduler_is_one_sentence_after_a_few_seconds(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        use(monkeypatch, f"tcp://127.0.0.1:{taken.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(UserError, match=r"no Dask scheduler answers at DASK_SCHEDULER_ADDRESS=tcp://127.0.0.1"):
            list(ordered_map(slow_square, range(3)))
        assert time.monotonic() - start < 15


def test_no_workers_and_no_scheduler_any_more_are_one_sentence_each(tmp_path, monkeypatch):
    with dask_processes(tmp_path, workers=0) as processes:
        use(monkeypatch, processes.address, seconds=1)
        with pytest.raises(UserError, match=r"has had no worker for 1 seconds: start some with `dask worker`"):
            list(ordered_map(slow_square, range(3)))
        processes.start_workers(1)
        use(monkeypatch, processes.address)
        results = ordered_map(slow_square, range(1000))
        assert next(results)[0] == 0
        processes.scheduler.kill()
        with pytest.raises(UserError, match=r"connection to the Dask scheduler at tcp.* was lost"):
            list(results)


def test_a_task_that_ends_its_workers_is_one_sentence(tmp_path, monkeypatch):
    with dask_processes(tmp_path, 1, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as processes:
        use(monkeypatch, processes.address)
        with pytest.raises(UserError, match=r"ended 1 workers of the Dask cluster, .* memory ran out"):
            list(ordered_map(end_process, [0]))


def test_the_digest_of_tasks_covers_the_python_files_of_every_package(tmp_path):
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    digests = [stages_digest(ROOT)]
    assert stages_digest(tmp_path) == digests[0]
    for path in ("ingest.py", "imaging/decode.py", "evaluation/classifier/__init__.py"):
        with (tmp_path / "stages" / path).open("a") as file:
            file.write("\n")
        digests.append(stages_digest(tmp_path))
    assert len(set(digests)) == len(digests)


def test_a_worker_with_other_files_or_packages_is_named():
    code, packages = stages_digest(ROOT), installed_packages()
    assert packages["numpy"]
    check_worker("tcp://w:1", str(ROOT), code, packages)
    with pytest.raises(ImportError, match=r"tcp://w:1 sees other files below"):
        check_worker("tcp://w:1", str(ROOT), "0" * 64, packages)
    with pytest.raises(ImportError, match=rf"tcp://w:1 has pillow {packages['pillow']}, expected 1.0 as here"):
        check_worker("tcp://w:1", str(ROOT), code, packages | {"pillow": "1.0"})


def test_a_worker_that_does_not_see_the_checkout_is_one_sentence(cluster, monkeypatch):
    use(monkeypatch, cluster.address)
    monkeypatch.setattr("stages.running.cluster.stages_digest", lambda root: "")
    monkeypatch.setattr("stages.running.cluster.ROOT", Path("/nowhere"))
    with pytest.raises(UserError, match=r"tcp://127.*has no folder /nowhere, which must be on a shared file system"):
        list(ordered_map(slow_square, range(3)))
