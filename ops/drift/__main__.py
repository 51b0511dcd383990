"""Has the data moved away from what the champion was trained on? `python -m ops drift [DATA]`

Compares images with the profile that is stored with the champion of visionloop-cnn (ops/drift/profile.py), never with
the old images, which need not be here:

    class prior        population stability index and chi-square test; new and vanished classes by name
    image statistics   brightness, contrast, sharpness, ...: the same index, at the same mix of classes
    distance           to the old images of the same class in the champion's reference space; permutation test
    unusual images     share that is far from all old images of the class; the farthest are shown

of all images and, when some of them are new and others known by their pixels, of the new ones by themselves, so that
a hundred strange images among thousands do not go unnoticed. Thresholds are in drift.yaml. Each comparison becomes a
run in MLflow, with its report.

Exit code: 0 no drift, 3 drift, 1 error.
"""

import argparse
import sys
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

DRIFT = 3  # exit code


def champions_profile(folder: Path) -> tuple[int, Profile]:
    """The number of the champion's version, and its profile, downloaded into `folder`. Raises UserError when there is
    no champion, or none with a profile."""
    version = registry.champion(CNN.model)
    if version is None:
        raise UserError(
            f"{CNN.model} has no champion to compare with: `python -m ops promote` makes one, and stores the profile "
            "of its data beside it"
        )
    if "profile" not in version.tags:
        raise UserError(
            f"version {version.number} of {CNN.model}, the champion, has no profile of its data: "
            "promote a model with `python -m ops promote`, which stores one"
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
        found, unusual = find_drift(profile, observed, new, embedded, params)
        shown = gallery(profile, observed, embedded, unusual) if embedded and unusual else None
        report = Report(
            data=str(data or DATA),
            version=version,
            profile=profile,
            observed=observed,
            labels=labels_of(observed, profile),
            new=new,
            findings=found,
            gallery=shown,
            undecodable=undecodable,
            min_new_images=params.min_new_images,
        )
        write_report(report, folder)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ops drift", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", nargs="?", type=Path, help="folder, archive or card of images in class folders; default: data/ingest"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write the report there, as one page")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table there, for an issue")
    arguments = parser.parse_args()
    params = load_params(DriftParams, "drift", POLICY)
    check_shared_store()
    commit = git("rev-parse", "HEAD")
    with tempfile.TemporaryDirectory(prefix="drift-") as name:
        version, profile = champions_profile(Path(name))
        folder = Path(name) / "report"
        folder.mkdir()
        with registry.new_run("drift", commit, {"champion": str(version)}) as run:
            report = compare(arguments.data, version, profile, params, folder)
            run.tags({"drift": "alarm" if report.alarms else "none", "data": report.data})
            run.metrics(report.metrics())
            run.artifact(folder)
            run.artifact(POLICY)
        for target, suffix in ((arguments.html, "html"), (arguments.markdown, "md")):
            if target:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((folder / f"drift.{suffix}").read_bytes())
    where = (
        arguments.html or f"drift.html of the newest run `drift {commit[:7]}` in MLflow; --html FILE writes it here too"
    )
    terminal.say(*report.terminal(), f"look at {where}")
    if report.alarms:
        sys.exit(DRIFT)


if __name__ == "__main__":
    terminal.run_stage(main)
