"""A record as commit 7d5571f wrote it, delivered by the sender of today to a store with a version of that time."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.running.tracking.delivery import start_sender
from stages.running.tracking.identity import SERVING_CODE_IN_BUNDLES, bundle_sha256, content_sha256
from tests.conftest import end_sender, mlflow_client
from tests.running.test_tracking import wait_until

SERVE = """
import mlflow

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input

mlflow.models.set_model(Echo())
"""
NETWORK, CLASSES, OTHER_CLASSES = b"a network", b'["ball", "cup"]', b'["ball", "mug"]'
OLD_STYLE_NETWORK = b"a network that is registered already"
TENSOR = [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, 2]}}]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class OldRecord:
    """The folder and the events of a stage that has ended, in the words of commit 7d5571f."""

    def __init__(self, root: Path, uri: str):
        self.folder, self.files = root / ".visionloop/outbox/1700000000000000000-evaluate-0123abcd", 0
        (self.folder / "files").mkdir(parents=True)
        tags = {"stage": "evaluate", "git_commit": "7d5571f", "dvc_experiment": "", "resume_key": ""}
        self.append(
            "start",
            uri=uri,
            experiment="visionloop",
            artifacts=(root / "mlartifacts").as_uri(),
            name="evaluate 7d5571f",
            params={"evaluate.seed": "0"},
            tags=tags,
        )

    def append(self, kind: str, **event: Any) -> None:
        with (self.folder / "events.jsonl").open("a") as events:
            events.write(json.dumps({"kind": kind, "time": 1700000000000, **event}) + "\n")

    def copy(self, name: str, content: bytes) -> str:
        self.files += 1
        path = self.folder / f"files/{self.files}/{name}"
        path.parent.mkdir()
        path.write_bytes(content)
        return path.relative_to(self.folder).as_posix()

    def register(self, name: str, network: bytes, classes: bytes, serve: str = SERVE) -> None:
        self.append(
            "register",
            name=name,
            sha256=sha256(network),
            bundle_sha256=bundle_sha256([sha256(network), sha256(classes)], sha256(serve.encode())),
            serve=self.copy("serve.py", serve.encode()),
            files={
                "model.keras": self.copy("model.keras", network),
                "classes.json": self.copy("classes.json", classes),
            },
            signature={"inputs": TENSOR, "outputs": TENSOR},
            example={"dtype": "uint8", "data": [[1, 2]]},
            description="A model of today.",
            tags={"metric.cnn.accuracy": "0.9", "git_commit": "7d5571f", "dvc_experiment": "", "data_hash": ""},
            requirements=["numpy"],
        )


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The store after the delivery."""
    root = tmp_path_factory.mktemp("old")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    client = mlflow_client(uri)
    client.create_registered_model("visionloop-cnn")
    bundle = bundle_sha256([sha256(OLD_STYLE_NETWORK), sha256(CLASSES)], SERVING_CODE_IN_BUNDLES["visionloop-cnn"])
    tags = {"sha256": sha256(OLD_STYLE_NETWORK), "bundle_sha256": bundle, "git_commit": "an earlier one"}
    client.create_model_version("visionloop-cnn", source="nowhere", tags=tags)

    record = OldRecord(root, uri)
    record.append("metrics", values={"cnn.accuracy": 0.9}, step=0)
    record.append("tags", values={"mood": "calm"})
    record.append("dataset", name="tiny", digest="d" * 64, profile={"images": 7})
    record.append("artifact", file=record.copy("note.txt", b"a note"), folder="notes")
    record.register("visionloop-cnn", OLD_STYLE_NETWORK, CLASSES)
    record.register("visionloop-gan", NETWORK, CLASSES)
    record.register("visionloop-gan", NETWORK, CLASSES, serve=f"# an edit of a comment\n{SERVE}")
    record.register("visionloop-gan", NETWORK, OTHER_CLASSES)
    record.append("end", status="FINISHED")
    start_sender(root)
    wait_until(lambda: not record.folder.exists(), seconds=90)
    yield client
    end_sender(root)


def versions(client: Any, name: str) -> list[Any]:
    """Oldest first."""
    return sorted(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))


def test_every_event_arrives(client: Any) -> None:
    experiment = client.get_experiment_by_name("visionloop")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "evaluate 7d5571f"
    assert run.data.params == {"evaluate.seed": "0"}
    assert run.data.metrics == {"cnn.accuracy": 0.9}
    registered = {"registered.visionloop-cnn": "1", "registered.visionloop-gan": "2"}
    assert ({"mood": "calm", "stage": "evaluate"} | registered).items() <= run.data.tags.items()
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.profile) == ("tiny", '{"images": 7}')
    assert [file.path for file in client.list_artifacts(run.info.run_id, "notes")] == ["notes/note.txt"]


def test_a_version_of_the_old_kind_is_the_same_version_still(client: Any) -> None:
    (version,) = versions(client, "visionloop-cnn")
    assert client.get_model_version_by_alias("visionloop-cnn", "candidate").version == version.version
    assert version.description == "A model of today."
    assert version.tags["metric.cnn.accuracy"] == "0.9"
    assert version.tags["git_commit"] == "an earlier one"


def test_new_versions_are_made_of_the_network_and_its_data_files_alone(client: Any) -> None:
    first, second = versions(client, "visionloop-gan")
    for version, classes in ((first, CLASSES), (second, OTHER_CLASSES)):
        assert version.tags["sha256"] == sha256(NETWORK)
        assert version.tags["content_sha256"] == content_sha256([sha256(NETWORK), sha256(classes)])
        assert "bundle_sha256" not in version.tags
        assert version.tags["git_commit"] == "7d5571f"
    assert client.get_model_version_by_alias("visionloop-gan", "candidate").version == second.version
