"""Links to the networks of this state in MLflow: the runs that trained them, and their registered versions."""

import os
from typing import NamedTuple
from urllib.parse import urlsplit

from ops.pages.document import Emphasis, Link, Paragraph, Section, Strong, Table, Text
from ops.project import registry
from ops.project.networks import NETWORKS
from stages.running.terminal import UserError
from stages.running.tracking.identity import sha256_of
from stages.serving.registry.network import Network


class Entries(NamedTuple):
    """A network's runs and versions in MLflow."""

    runs: list[tuple[str, str, str]]  # experiment id, run id, name; of the runs that trained it
    versions: list[tuple[int, bool]]  # number, whether it is the champion


def section() -> Section | None:
    """The section of the report; None when there is no network here, or none of them is in MLflow."""
    networks = [network for network in NETWORKS.values() if network.file.exists()]
    if not networks:
        return None
    try:
        found = [_find(network) for network in networks]
    except UserError as error:
        return Section("MLflow", [Paragraph(Emphasis(str(error)))])
    rows: list[list[Text]] = []
    for network, entries in zip(networks, found, strict=True):
        if not entries.runs and not entries.versions:
            continue
        runs = [
            linked(f"{name} ({run[:8]})", f"experiments/{experiment}/runs/{run}")
            for experiment, run, name in entries.runs
        ]
        versions = [
            linked(
                f"{network.model} version {number}" + (" (champion)" if is_champion else ""),
                f"models/{network.model}/versions/{number}",
            )
            for number, is_champion in entries.versions
        ]
        rows.append([Strong(network.title), _listed(runs), _listed(versions)])
    if not rows:
        return None
    return Section("MLflow", [Table(("", "trained by", "registered as"), rows, "lll")])


def _find(network: Network) -> Entries:
    """The entries of the network that is here. Raises UserError when there is no store or it does not answer."""
    sha256 = sha256_of(network.file)
    with registry.mlflow_errors_as_user_errors():
        client = registry.client()
        experiment = client.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "visionloop")
        found = client.search_runs([experiment.experiment_id], f"tags.model_sha256 = '{sha256}'") if experiment else []
        versions = [version for version in registry.versions(network.model) if version.tags.get("sha256") == sha256]
        champion = registry.champion(network.model) if versions else None
    return Entries(
        [(run.info.experiment_id, run.info.run_id, run.info.run_name) for run in found],
        [(each.number, champion is not None and each.number == champion.number) for each in versions],
    )


def _listed(pieces: list[Link | str]) -> list:
    return [each for piece in pieces for each in (", ", piece)][1:]


def linked(text: str, where: str) -> Link | str:
    """A link to a page of MLflow's server; only the text when the store is not a server."""
    parts = urlsplit(registry.store_uri())
    if parts.scheme not in ("http", "https"):
        return text
    without_password = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return Link(text, f"{without_password}/#/{where}")
