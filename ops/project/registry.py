"""MLflow's registry: versions of the models, present and former champions, and runs of promotions and drift checks.

Imports mlflow at first use: it takes seconds. The store is at MLFLOW_TRACKING_URI, or mlflow.db of the main checkout.

A promotion records there, so that MLflow's UI shows the history:
    alias `champion`                            on the version in use; `candidate` on the one that was compared last
    tags `promotion.*` of a version             decision, reason, time, the version compared with, differences, run
    tags `champion.*` of a version              since, until, previous (the version before it), rolled_back
    tags `champion.0001`, ... of the model      one line for each change of the champion; never overwritten
"""

import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from stages.core.dataset import read_classes
from stages.running.checkout import main_checkout
from stages.running.terminal import UserError
from stages.running.tracking.address import server_problem, tracking_uri

TAG_LENGTH = 5000  # MLflow's limit


class Version(NamedTuple):
    """A registered version of a model, as it was when it was read."""

    model: str
    number: int
    run_id: str
    tags: Mapping[str, str]


class Files(NamedTuple):
    """A network and its class names, copied from a version."""

    network: Path
    classes: list[str]


def store_uri() -> str:
    """The tracking URI: that of the server in the environment, or of the main checkout's store."""
    return tracking_uri(main_checkout())


def exists() -> bool:
    """Whether the store exists. Raises UserError when it is on a server that does not answer."""
    uri = store_uri()
    if uri.startswith("sqlite:"):
        return Path(uri.removeprefix("sqlite:///")).exists()  # MLflow would create one
    parts = urlsplit(uri)
    if parts.hostname and (problem := server_problem(uri)):
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        raise UserError(
            f"MLflow does not answer at MLFLOW_TRACKING_URI={address} ({problem}): start it, or correct the address"
        )
    return True


def client() -> Any:
    """MLflow's client. Raises UserError when there is no store or it does not answer."""
    if not exists():
        raise UserError(f"no MLflow store at {store_uri()}: run `dvc repro`, which makes one and registers models")
    return _client(store_uri())


@lru_cache(maxsize=1)
def _client(uri: str) -> Any:
    # Read when MLflow is imported or used. Few retries: a server that answered a moment ago is not worth minutes.
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "60"),
    ):
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's warnings about loading its stores are not ours to fix
        import mlflow

        mlflow.set_tracking_uri(uri)  # some of MLflow's functions take no client
        found = mlflow.MlflowClient(uri)
        found.search_registered_models(max_results=1)
    return found


@contextmanager
def mlflow_errors_as_user_errors() -> Iterator[None]:
    """Turns MLflow's own exceptions into UserErrors."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("mlflow."):
            raise
        raise UserError(f"MLflow request failed ({' '.join(str(error).split())[:500]}): run this again") from error


def now() -> str:
    """The time in UTC, to the second: 2026-11-22T10:00:00Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---------------------------------------------------------------- versions


def versions(model: str) -> list[Version]:
    """All versions of a model, newest first; empty when it is not registered."""
    found, token = [], None
    while True:
        page = client().search_model_versions(f"name = '{model}'", max_results=1000, page_token=token)
        found += [_version(entry) for entry in page]
        if not (token := page.token):
            return sorted(found, key=lambda version: -version.number)


def champion(model: str) -> Version | None:
    """The version with the alias `champion`; None when no version has it."""
    return aliased(model, "champion")


def aliased(model: str, alias: str) -> Version | None:
    """The version with an alias; None when the alias or the model does not exist."""
    from mlflow import MlflowException

    store = client()
    try:
        return _version(store.get_model_version_by_alias(model, alias))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model; no such alias
            return None
        raise


def _version(found: Any) -> Version:
    return Version(found.name, int(found.version), found.run_id or "", dict(found.tags))


def download(uri: str, folder: Path) -> Path:
    """Copies the artifact at `runs:/RUN/PATH` or `models:/NAME/VERSION/PATH` into `folder`; returns its local path."""
    client()
    import mlflow

    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))


def download_version(version: Version, folder: Path) -> Files:
    """Copies the network and class names of a version into `folder`.

    Raises UserError when they are missing, or differ from the registered ones.
    """
    name = f"version {version.number} of {version.model}"
    with mlflow_errors_as_user_errors():
        copied = download(f"models:/{version.model}/{version.number}/artifacts", folder)
    networks = sorted(copied.glob("*.keras"))
    if len(networks) != 1 or not (copied / "classes.json").exists():
        raise UserError(f"{name} has no network with class names in MLflow: restore its files, or use another version")
    with networks[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != version.tags.get("sha256", found):
        raise UserError(
            f"the network of {name} in MLflow has changed since it was registered: sha256 {found[:12]}..., "
            f"expected {version.tags['sha256'][:12]}...: restore its files, or promote another version"
        )
    return Files(networks[0], read_classes(copied))


def tag(version: Version, values: Mapping[str, str]) -> None:
    """Sets tags of a version."""
    for key, value in values.items():
        client().set_model_version_tag(version.model, str(version.number), key, value[:TAG_LENGTH])


def untag(version: Version, *keys: str) -> None:
    """Removes the tags that a version has of `keys`."""
    for key in keys:
        if key in version.tags:
            client().delete_model_version_tag(version.model, str(version.number), key)


def set_alias(version: Version, alias: str) -> None:
    """Moves an alias to a version, in one step."""
    client().set_registered_model_alias(version.model, alias, str(version.number))


def history(model: str) -> list[str]:
    """The changes of the champion, one line each, oldest first."""
    found = client().search_registered_models(f"name = '{model}'")
    tags = found[0].tags if found else {}
    return [tags[key] for key in sorted(tags) if re.fullmatch(r"champion\.\d{4,}", key)]


def add_to_history(model: str, line: str) -> None:
    """Adds a line and overwrites none. Call it within `registry_lock.promotion_lock`."""
    client().set_registered_model_tag(model, f"champion.{len(history(model)) + 1:04d}", line[:TAG_LENGTH])


# ---------------------------------------------------------------- runs


class RunWriter:
    """Writes to an open MLflow run."""

    def __init__(self, run_id: str):
        self.run_id = run_id

    def metrics(self, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        time = int(datetime.now(UTC).timestamp() * 1000)
        client().log_batch(self.run_id, metrics=[Metric(name, value, time, 0) for name, value in values.items()])

    def tags(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            client().set_tag(self.run_id, name, value[:TAG_LENGTH])

    def text(self, text: str, name: str) -> None:
        client().log_text(self.run_id, text, name)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Stores a file, or the files in a folder, under `folder` in the run's artifacts."""
        if path.is_dir():
            client().log_artifacts(self.run_id, str(path), folder or None)
        else:
            client().log_artifact(self.run_id, str(path), folder or None)


@contextmanager
def new_run(command: str, commit: str, tags: Mapping[str, str]) -> Iterator[RunWriter]:
    """A run named "`command` COMMIT" in the experiment that the stages use; FAILED when the block raises."""
    store, name = client(), os.environ.get("MLFLOW_EXPERIMENT_NAME") or "visionloop"
    experiment = store.get_experiment_by_name(name)
    if experiment:
        experiment_id = experiment.experiment_id
    else:
        local = store_uri().startswith("sqlite:")
        experiment_id = store.create_experiment(
            name, artifact_location=(main_checkout() / "mlartifacts").as_uri() if local else None
        )
    all_tags = {"stage": command, "git_commit": commit, "mlflow.source.name": f"ops/{command}/__main__.py", **tags}
    run_id = store.create_run(experiment_id, tags=all_tags, run_name=f"{command} {commit[:7]}").info.run_id
    try:
        yield RunWriter(run_id)
    except BaseException:
        store.set_terminated(run_id, "FAILED")
        raise
    store.set_terminated(run_id, "FINISHED")
