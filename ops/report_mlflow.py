"""Where MLflow has the networks of this state: the runs that trained them, and their registered versions."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ops import registry
from ops.pipeline import tracking_uri
from ops.report_metrics import NETWORKS, REGISTERED, TITLES
from ops.report_page import Emphasis, Link, Paragraph, Section, Strong, Table, Text
from stages.lib.terminal import UserError


class Record(NamedTuple):
    """What MLflow knows of a network."""

    runs: list[tuple[str, str, str]]  # experiment id, run id, name; of the runs that trained it
    versions: list[tuple[int, bool]]  # number, whether it is the champion


def section() -> Section | None:
    """The section of the report; None when there is no network here, or MLflow knows none of them."""
    networks = {model: Path(path) for model, path in NETWORKS.items() if Path(path).exists()}
    if not networks:
        return None
    try:
        records = {model: _find(REGISTERED[model], path) for model, path in networks.items()}
    except UserError as error:
        return Section("MLflow", [Paragraph(Emphasis(str(error)))])
    rows: list[list[Text]] = []
    for model, record in records.items():
        if not record.runs and not record.versions:
            continue
        runs = [
            _linked(f"{name} ({run[:8]})", f"experiments/{experiment}/runs/{run}")
            for experiment, run, name in record.runs
        ]
        versions = [
            _linked(
                f"{REGISTERED[model]} version {number}" + (" (champion)" if is_champion else ""),
                f"models/{REGISTERED[model]}/versions/{number}",
            )
            for number, is_champion in record.versions
        ]
        rows.append([Strong(TITLES[model]), _joined(runs), _joined(versions)])
    if not rows:
        return None
    return Section("MLflow", [Table(("", "trained by", "registered as"), rows, "lll")])


def _find(model: str, network: Path) -> Record:
    """What MLflow knows of the network in this file. Raises UserError when it has no store or does not answer."""
    with network.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with registry.clear_errors():
        client = registry.client()
        experiment = client.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "visionloop")
        found = client.search_runs([experiment.experiment_id], f"tags.model_sha256 = '{sha256}'") if experiment else []
        versions = [version for version in registry.versions(model) if version.tags.get("sha256") == sha256]
        champion = registry.champion(model) if versions else None
    return Record(
        [(run.info.experiment_id, run.info.run_id, run.info.run_name) for run in found],
        [(each.number, champion is not None and each.number == champion.number) for each in versions],
    )


def _joined(pieces: list[Link | str]) -> list:
    return [each for piece in pieces for each in (", ", piece)][1:]


def _linked(text: str, where: str) -> Link | str:
    """A link to a page of MLflow's server; the text alone when the store is none that a browser could show."""
    parts = urlsplit(tracking_uri())
    if parts.scheme not in ("http", "https"):
        return text
    without_password = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return Link(text, f"{without_password}/#/{where}")
