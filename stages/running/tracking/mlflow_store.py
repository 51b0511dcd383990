"""Turns the events of one record into an MLflow run and registered models. The only file of the stages that imports
mlflow, on first use, because that takes seconds."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.running.tracking.identity import content_sha256, is_version_of, sha256_of


def read_progress(folder: Path) -> dict[str, Any]:
    """How much of a record is delivered; when a power cut damaged that file, everything is sent again."""
    try:
        return json.loads((folder / "delivered.json").read_text())
    except (OSError, ValueError):
        return {"bytes": 0}


class MlflowStore:
    """Sends the events of the record in `folder`, in order.

    progress: what a later process needs to send the next event; `send` updates it.
    """

    def __init__(self, folder: Path, progress: dict[str, Any]):
        self.folder, self.progress = folder, progress

    def send(self, event: dict[str, Any]) -> None:
        """Sends one event, or a batch of metrics: {"kind": "metrics", "batch": [event, ...]}."""
        from mlflow import entities

        if event["kind"] == "start":
            self._start(event)
            return
        client, run_id = self._client(), self.progress["run_id"]
        if event["kind"] == "metrics":
            metrics = [
                entities.Metric(name, value, each["time"], each["step"])
                for each in event["batch"]
                for name, value in each["values"].items()
            ]
            for first in range(0, len(metrics), 900):  # MLflow takes 1,000 at a time
                client.log_batch(run_id, metrics=metrics[first : first + 900])
        elif event["kind"] == "tags":
            client.log_batch(run_id, tags=[entities.RunTag(k, str(v)[:5000]) for k, v in event["values"].items()])
        elif event["kind"] == "artifact":
            path = self.folder / event["file"]
            if path.is_dir():
                client.log_artifacts(run_id, str(path), "/".join(filter(None, [event["folder"], path.name])))
            else:
                client.log_artifact(run_id, str(path), event["folder"] or None)
        elif event["kind"] == "dataset":
            data = entities.Dataset(
                name=event["name"],
                digest=event["digest"][:32],
                source_type="local",
                source=json.dumps({"uri": f"data/raw/{event['name']}"}),
                profile=json.dumps(event["profile"]),
            )
            tag = entities.InputTag("mlflow.data.context", self.progress["stage"])
            client.log_inputs(run_id, [entities.DatasetInput(data, [tag])])
        elif event["kind"] == "register":
            self._register(event)
        elif event["kind"] == "end":
            client.set_terminated(run_id, event["status"], event["time"])
            self.progress["ended"] = True

    def end_unless_ended(self) -> None:
        """Marks the run as KILLED when its record ends without an end event."""
        if "run_id" in self.progress and not self.progress.get("ended"):
            self._client().set_terminated(self.progress["run_id"], "KILLED")

    def _client(self) -> Any:
        import mlflow

        # Some of MLflow's functions take no client: this gives them the same store.
        mlflow.set_tracking_uri(self.progress["uri"])
        return mlflow.MlflowClient(self.progress["uri"])

    def _start(self, event: dict[str, Any]) -> None:
        from mlflow import entities

        self.progress.update(uri=event["uri"], stage=event["tags"]["stage"], name=event["name"])
        client = self._client()
        experiment = client.get_experiment_by_name(event["experiment"])
        experiment_id = (
            experiment.experiment_id
            if experiment
            else client.create_experiment(
                event["experiment"],
                artifact_location=event["artifacts"],
                tags={"mlflow.experimentKind": "custom_model_development"},  # else the UI shows agents and prompts
            )
        )
        tags = {key: value for key, value in event["tags"].items() if value} | {"record": self.folder.name}
        run = self._run_to_continue(client, experiment_id, tags.get("resume_key"))
        if run:
            # The resumed run becomes part of this execution's DVC experiment.
            changed = {"record": self.folder.name, "dvc_experiment": event["tags"]["dvc_experiment"]}
            client.log_batch(run.info.run_id, tags=[entities.RunTag(*tag) for tag in changed.items()])
            client.update_run(run.info.run_id, "RUNNING", event["name"])
        else:
            run = client.create_run(experiment_id, event["time"], tags, event["name"])
        params = [entities.Param(key, value[:6000]) for key, value in event["params"].items()]
        client.log_batch(run.info.run_id, params=params)
        self.progress.update(run_id=run.info.run_id, experiment_id=experiment_id)

    def _run_to_continue(self, client: Any, experiment_id: str, resume_key: str | None) -> Any:
        """The run that was created for this record when the answer was lost, or the run of an unfinished execution of
        the same work; None when there is none."""

        def newest(query: str) -> Any:
            found = client.search_runs([experiment_id], query, order_by=["attributes.start_time DESC"], max_results=1)
            return found[0] if found else None

        run = newest(f"tags.record = '{self.folder.name}'")
        if run or not resume_key:
            return run
        run = newest(f"tags.resume_key = '{resume_key}' and attributes.status != 'FINISHED'")
        # Another execution may still be doing the same work: it survives when only DVC is killed.
        others = {read_progress(folder).get("run_id") for folder in self.folder.parent.iterdir()}
        return run if run and run.info.run_id not in others else None

    def _register(self, event: dict[str, Any]) -> None:
        import mlflow

        client, name = self._client(), event["name"]
        with contextlib.suppress(mlflow.MlflowException):
            client.create_registered_model(name)
        sha256s = [sha256_of(self.folder / file) for file in event["files"].values()]  # that of the network first
        tags = {**event["tags"], "sha256": sha256s[0], "content_sha256": content_sha256(sha256s)}
        versions = client.search_model_versions(f"name = '{name}'")
        number = next((v.version for v in versions if is_version_of(v.tags, name, sha256s)), None)
        if number is None:
            number = self._new_version(event, tags)
        else:
            client.update_model_version(name, number, event["description"])
            for key, value in tags.items():
                if key.startswith("metric."):  # the tags of its origin stay
                    client.set_model_version_tag(name, number, key, value)
        client.set_registered_model_alias(name, "candidate", number)
        client.log_batch(self.progress["run_id"], tags=[mlflow.entities.RunTag(f"registered.{name}", str(number))])

    def _new_version(self, event: dict[str, Any], tags: dict[str, str]) -> str:
        """Saves the network with its serving code and registers both; returns the number of the version."""
        import mlflow
        from mlflow.models import ModelSignature

        client, name, experiment_id = self._client(), event["name"], self.progress["experiment_id"]
        trained_by = client.search_runs([experiment_id], f"tags.model_sha256 = '{tags['sha256']}'", max_results=1)
        # A network from DVC's cache may have been trained with another store.
        run_id = trained_by[0].info.run_id if trained_by else self.progress["run_id"]
        saved = self.folder / "model"
        shutil.rmtree(saved, ignore_errors=True)
        mlflow.pyfunc.save_model(
            str(saved),
            python_model=str(self.folder / event["serve"]),
            artifacts={key.split(".")[0]: str(self.folder / file) for key, file in event["files"].items()},
            signature=ModelSignature.from_dict({side: json.dumps(specs) for side, specs in event["signature"].items()}),
            input_example=_example(event["example"]),
            pip_requirements=event["requirements"],
        )
        model = client.create_logged_model(
            experiment_id, name=name, source_run_id=run_id, tags=event["tags"], model_type="pyfunc"
        )
        client.log_model_artifacts(model.model_id, str(saved))
        client.finalize_logged_model(model.model_id, "READY")
        return client.create_model_version(
            name,
            source=f"models:/{model.model_id}",
            run_id=run_id,
            tags=tags,
            description=event["description"],
            model_id=model.model_id,
        ).version


def _example(example: Mapping[str, Any]) -> Any:
    """An array for {"dtype": ..., "data": [...]}, a table for {"columns": ...}."""
    import numpy
    import pandas

    if "columns" in example:
        return pandas.DataFrame(example["columns"])
    return numpy.array(example["data"], dtype=example["dtype"])
