"""Has the data moved away from what the champion was trained on? `python -m ops.drift [DATA]`

Compares images with the profile that is stored with the champion of visionloop-cnn (ops/profile.py), never with the old
images, which need not be here:

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
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from ops import registry
from ops.drift_measures import (
    Unusual,
    class_distance,
    holm,
    kernel_distance,
    prior_shift,
    statistic_shift,
    unusualness,
)
from ops.drift_report import Finding, Gallery, Report, write_report
from ops.pipeline import check_shared_store, git
from ops.profile import DATA, STATISTICS, Observed, Profile, balanced, count, embed, image_shape, observe, read_profile
from stages.ingest import IngestParams, write_shards
from stages.lib import terminal
from stages.lib.params import Params, load_params
from stages.lib.reference_space import ReferenceSpace
from stages.lib.sources import open_source
from stages.lib.splits import Splitter
from stages.lib.survey import limited, survey
from stages.lib.terminal import UserError
from stages.lib.workers import available_cores

MODEL, POLICY = "visionloop-cnn", Path("drift.yaml")
SHOWN = 12  # most unusual images, and as many typical ones
DRIFT = 3  # exit code
TESTS = 1 + 2 * len(STATISTICS) + 2  # at most, in a run


class DriftParams(Params):
    false_alarms: float = Field(gt=0, le=0.5)
    prior_psi: float = Field(ge=0)
    statistic_psi: float = Field(ge=0)
    distance: float = Field(ge=0)
    unusual: float = Field(ge=0, le=1)
    new_class_images: int = Field(ge=1)
    min_new_images: int = Field(ge=10)
    max_images: int = Field(ge=100, le=100_000)
    permutations: int = Field(ge=10, le=100_000)
    seed: int = Field(ge=0, lt=2**31)

    @model_validator(mode="after")
    def _distance_can_raise_the_alarm(self) -> "DriftParams":
        if TESTS / (1 + self.permutations) > self.false_alarms:
            raise ValueError(
                f"permutations must be at least {TESTS / self.false_alarms:.0f} (it is {self.permutations}) for "
                f"false_alarms {self.false_alarms:g}: the smallest p-value that so many can give is too large"
            )
        return self


class Embedded(NamedTuple):
    """Some of the new images in the champion's reference space."""

    positions: np.ndarray  # int [k], among the observed images
    labels: np.ndarray  # int [k], see `labels_of`
    features: np.ndarray  # [k, d]


def labels_of(observed: Observed, profile: Profile) -> np.ndarray:
    """The label [n] that each image's class has in the profile; those of classes it does not know come after these."""
    names = [*profile.classes, *(name for name in observed.classes if name not in profile.classes)]
    return np.array([names.index(name) for name in observed.classes])[observed.labels]


def find_drift(
    profile: Profile, observed: Observed, new: np.ndarray, embedded: Embedded | None, params: DriftParams
) -> tuple[list[Finding], Unusual | None]:
    """All findings about images with hashes unknown to the profile where `new` [n] is true, and how unusual each of the
    embedded ones is. Nothing here reads an image."""
    labels = labels_of(observed, profile)
    found = class_findings(profile, observed, labels, params)
    enough = new.sum() >= params.min_new_images
    scopes = [("all", np.ones(len(new), bool))]
    if enough and not new.all():
        scopes.append(("new", new))
    for scope, chosen in scopes:
        found += statistic_findings(profile, observed.statistics[chosen], labels[chosen], scope, params)
    unusual = None
    if embedded is not None:
        old, old_labels = profile.features.astype(np.float64), profile.labels
        features = embedded.features.astype(np.float64)
        unusual = unusualness(features, embedded.labels, old, old_labels)
        if enough:
            scope = "all" if new.all() else "new"
            found += distance_findings(profile, features, embedded.labels, unusual, scope, params)
    tests = [index for index, finding in enumerate(found) if finding.p is not None]
    for index, p in zip(tests, holm([found[index].p or 0.0 for index in tests]), strict=True):
        large = found[index].value >= found[index].threshold
        found[index] = found[index]._replace(p=float(p), alarm=bool(large and p <= params.false_alarms))
    return found, unusual


def class_findings(profile: Profile, observed: Observed, labels: np.ndarray, params: DriftParams) -> list[Finding]:
    """The class prior of all images, and classes that the champion does not know. That of the new ones alone is no
    finding: to add images of one class is everyday work."""
    known = len(profile.classes)
    counts, before = np.bincount(labels, minlength=known), profile.counts
    found = []
    if strange := int(counts[known:].sum()):
        names = ", ".join(name for name in observed.classes if name not in profile.classes)
        alarm = strange >= params.new_class_images
        found.append(Finding("all", "new classes", strange, params.new_class_images, None, alarm, f"images of {names}"))
    if not counts[:known].sum():
        return found
    psi, p = prior_shift(counts[:known], before)
    after_share, share = counts[:known] / counts[:known].sum(), before / before.sum()
    order = np.argsort(-np.abs(after_share - share), kind="stable")[:2]
    said = [f"{profile.classes[k]} {share[k]:.1%} → {after_share[k]:.1%}" for k in order if share[k] != after_share[k]]
    vanished = [profile.classes[k] for k in np.flatnonzero((counts[:known] == 0) & (before > 0))]
    if vanished:
        shown = ", ".join(vanished[:5]) + (f" and {len(vanished) - 5} more" if len(vanished) > 5 else "")
        said = [f"no images of {shown}"]
    return [Finding("all", "class prior", psi, params.prior_psi, p, False, ", ".join(said) or "as before"), *found]


def statistic_findings(
    profile: Profile, statistics: np.ndarray, labels: np.ndarray, scope: str, params: DriftParams
) -> list[Finding]:
    """One for each image statistic, of values [n, statistics] and labels [n]."""
    known = labels < len(profile.classes)
    if not known.any():
        return []
    statistics, labels = statistics[known], labels[known]
    counts = count(statistics, labels, len(profile.classes), profile.edges)
    weights = np.bincount(labels, minlength=len(profile.classes)) / len(labels)
    found = []
    for index, name in enumerate(profile.statistics):
        psi, p = statistic_shift(counts[:, index], profile.histograms[:, index].astype(np.int64))
        before = old_mean(profile.histograms[:, index], profile.edges[index], weights)
        after = statistics[:, index].mean(dtype=np.float64)
        detail = f"mean {before:.4g} → {after:.4g}"
        found.append(Finding(scope, name, psi, params.statistic_psi, p, False, detail))
    return found


def old_mean(histograms: np.ndarray, edges: np.ndarray, weights: np.ndarray) -> float:
    """Mean of a statistic in the profile, to half a bin, with its classes as frequent as weights [classes] say."""
    middles = np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])
    totals = histograms.sum(axis=1)
    means = histograms @ middles / np.maximum(totals, 1)
    weights = weights * (totals > 0)
    return float(weights @ means / max(weights.sum(), 1e-12))


def distance_findings(
    profile: Profile, features: np.ndarray, labels: np.ndarray, unusual: Unusual, scope: str, params: DriftParams
) -> list[Finding]:
    """Distance in the reference space and share of unusual images, of new features [k, d] and labels [k]."""
    old, old_labels = profile.features.astype(np.float64), profile.labels
    distance = kernel_distance(features, labels, old, old_labels, params.permutations, params.seed)
    found = []
    unit = class_distance(old, old_labels)
    if np.isfinite(distance.of_class).any() and np.isfinite(unit):
        farthest = int(np.nanargmax(distance.of_class))
        detail = f"most in class {profile.classes[farthest]}: {distance.of_class[farthest] / unit:.2f}"
        found.append(Finding(scope, "distance", distance.value / unit, params.distance, distance.p, False, detail))
    if np.isfinite(unusual.usual):
        detail = f"of {unusual.compared:,} looked at; 1.0% of the old"
        found.append(Finding(scope, "unusual images", unusual.share, params.unusual, unusual.p, False, detail))
    return found


def embed_new(profile: Profile, observed: Observed, new: np.ndarray, params: DriftParams) -> Embedded | None:
    """At most `max_images` of the new images in the champion's reference space; None when there are none. Known images
    are left out: the network was trained on most of them, and the rest are in the profile."""
    if not new.any():
        return None
    labels, candidates = labels_of(observed, profile), np.flatnonzero(new)
    random = np.random.default_rng(params.seed)
    chosen = candidates[balanced(labels[candidates], params.max_images, random)]
    return Embedded(chosen, labels[chosen], embed(ReferenceSpace(profile.network), observed, chosen))


@contextmanager
def ingested(data: Path | None, profile: Profile) -> Iterator[tuple[Path, list[str]]]:
    """A folder as ingest writes it, with images as large as the champion's, and which files could not be decoded."""
    if data is None:
        shape = image_shape(DATA) if DATA.exists() else profile.shape
        if shape != profile.shape:
            ours, theirs = ("x".join(map(str, s)) for s in (shape, profile.shape))
            raise UserError(
                f"the images in {DATA} are {ours} and the champion's {theirs}: name the images themselves, "
                "`python -m ops.drift data/raw/NAME`, and they are brought to its size"
            )
        yield DATA, []
        return
    if not data.exists():
        raise UserError(
            f"{data} not found: expected a folder or archive of images, a sub-folder per class; "
            "`dvc pull` fetches what DVC tracks"
        )
    params = load_params(IngestParams, "ingest")
    with open_source(data) as source, tempfile.TemporaryDirectory(prefix="drift-") as name:
        folder, size, channels = Path(name), profile.shape[0], profile.shape[2]
        items = limited(source.items, None).in_processing_order()
        plan = survey(items, size, 3 if channels == 3 else 1, params.fit)
        # No splits: what the data set does not call test or val itself counts as train.
        splitter = Splitter({"train", "val", "test"}, 0.0, 0.0)
        cores = available_cores()
        write_shards(items, source.classes, plan, splitter, params.shard_mib, folder, cores).close()
        (folder / "classes.json").write_text(json.dumps(source.classes), encoding="utf-8")
        rows = pq.read_table(folder / "manifest.parquet", columns=["source", "sha256", "reason"]).to_pylist()
        bad = [f"{row['source']}: {row['reason']}" for row in rows if row["sha256"] is None]
        if len(bad) == len(rows):
            raise UserError(f"none of the {len(rows)} images in {data} can be decoded: {bad[0]}")
        yield folder, bad


def gallery(profile: Profile, observed: Observed, embedded: Embedded, unusual: Unusual) -> Gallery:
    """The most unusual of the new images, and the most typical ones."""
    order = np.argsort(-unusual.scores, kind="stable")
    typical = np.argsort(np.abs(unusual.scores - 1.0), kind="stable")
    shown = np.concatenate([order[:SHOWN], typical[: min(SHOWN, len(order))]])
    positions = embedded.positions[shown]
    return Gallery(
        observed.images(positions),
        [observed.classes[label] for label in observed.labels[positions]],
        observed.sources[positions].tolist(),
        unusual.scores[shown].tolist(),
        len(order[:SHOWN]),
    )


def champions_profile(folder: Path) -> tuple[int, Profile]:
    """The number of the champion's version, and its profile, downloaded into `folder`. Raises UserError when there is
    no champion, or none with a profile."""
    version = registry.champion(MODEL)
    if version is None:
        raise UserError(
            f"{MODEL} has no champion to compare with: `python -m ops.promote` makes one, and stores the profile of "
            "its data beside it"
        )
    if "profile" not in version.tags:
        raise UserError(
            f"version {version.number} of {MODEL}, the champion, has no profile of its data: "
            "promote a model with `python -m ops.promote`, which stores one"
        )
    with registry.clear_errors():
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
        prog="python -m ops.drift", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
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
