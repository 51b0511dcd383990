"""Comparison of images with the profile of the champion's training images, recorded as a run in MLflow."""

import tempfile
from pathlib import Path

import numpy as np

from ops.drift.findings import POLICY, DriftParams, find_drift
from ops.drift.images import embed_new, gallery, ingested
from ops.drift.profile import DATA, Profile, labels_of, observe, read_profile
from ops.drift.report import Report, write_report
from ops.project import registry
from ops.project.networks import CNN
from ops.project.pipeline import check_shared_store, git
from stages.core.params import load_params
from stages.running import terminal
from stages.running.terminal import UserError


def champion_profile(folder: Path) -> tuple[int, Profile]:
    """The champion's version number and its profile, downloaded into `folder`. Raises UserError when there is no
    champion, or it has no profile."""
    version = registry.champion(CNN.model)
    if version is None:
        raise UserError(
            f"{CNN.model} has no champion to compare with: run `uv run visionloop promote`, which promotes one and "
            "stores the profile of its data"
        )
    if "profile" not in version.tags:
        raise UserError(
            f"version {version.number} of {CNN.model}, the champion, has no profile of its data: "
            "promote a model with `uv run visionloop promote`, which stores one"
        )
    with registry.mlflow_errors_as_user_errors():
        downloaded = registry.download(version.tags["profile"], folder)
    return version.number, read_profile(downloaded)


def compare(data: Path | None, version: int, profile: Profile, params: DriftParams, folder: Path) -> Report:
    """Compares images with the profile of the champion, and writes the report's files into `folder`."""
    with ingested(data, profile) as (images, undecodable):
        observed = observe(images)
        new = ~np.isin(observed.hashes, profile.hashes)
        embedded = embed_new(profile, observed, new, params)
        findings, unusual = find_drift(profile, observed, new, embedded, params)
        shown = gallery(profile, observed, embedded, unusual) if embedded and unusual else None
        report = Report(
            data=str(data or DATA),
            version=version,
            profile=profile,
            observed=observed,
            labels=labels_of(observed, profile),
            new=new,
            findings=findings,
            gallery=shown,
            undecodable=undecodable,
            min_new_images=params.min_new_images,
        )
        write_report(report, folder)
    return report


def check_drift(data: Path | None, html: Path | None, markdown: Path | None) -> bool:
    """Compares images with the champion's training images, by default those of data/ingest, and returns whether they
    have drifted. html, markdown: files for the report."""
    params = load_params(DriftParams, "drift", POLICY)
    check_shared_store()
    commit = git("rev-parse", "HEAD")
    with tempfile.TemporaryDirectory(prefix="drift-") as name:
        version, profile = champion_profile(Path(name))
        folder = Path(name) / "report"
        folder.mkdir()
        with registry.new_run("drift", commit, {"champion": str(version)}) as run:
            report = compare(data, version, profile, params, folder)
            run.tags({"drift": "alarm" if report.alarms else "none", "data": report.data})
            run.metrics(report.metrics())
            run.artifact(folder)
            run.artifact(POLICY)
        for target, suffix in ((html, "html"), (markdown, "md")):
            if target:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((folder / f"drift.{suffix}").read_bytes())
    page = html or f"drift.html in the newest MLflow run `drift {commit[:7]}`; --html FILE writes it here too"
    terminal.say(*report.terminal(), f"report: {page}")
    return bool(report.alarms)
