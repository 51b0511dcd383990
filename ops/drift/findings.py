"""Compares measurements of images with a champion's profile and decides which differences raise an alarm.

Reads no images. Thresholds are in drift.yaml.
"""

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from ops.drift.measures import (
    Unusual,
    class_distance,
    holm,
    kernel_distance_within_classes,
    prior_shift,
    statistic_shift,
    unusualness,
)
from ops.drift.profile import STATISTICS, Observed, Profile, count, labels_of
from stages.core.params import Params

POLICY = Path("drift.yaml")
MAX_TESTS = 1 + 2 * len(STATISTICS) + 2  # in a run


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
    def _distance_can_raise_the_alarm(self) -> Self:
        if MAX_TESTS / (1 + self.permutations) > self.false_alarms:
            raise ValueError(
                f"permutations must be at least {MAX_TESTS / self.false_alarms:.0f} (it is {self.permutations}) for "
                f"false_alarms {self.false_alarms:g}: with fewer, no p-value can be small enough"
            )
        return self


class Finding(NamedTuple):
    """The result of one comparison, with scope `all` for all images or `new` for the new ones separately."""

    scope: str
    name: str
    value: float
    threshold: float
    p: float | None  # None where there is nothing to test
    alarm: bool
    detail: str


class Embedded(NamedTuple):
    """Some of the new images in the champion's reference space."""

    positions: np.ndarray  # int [k], among the observed images
    labels: np.ndarray  # int [k], see `labels_of`
    features: np.ndarray  # [k, d]


def find_drift(
    profile: Profile, observed: Observed, new: np.ndarray, embedded: Embedded | None, params: DriftParams
) -> tuple[list[Finding], Unusual | None]:
    """All findings, and the embedded images' scores of unusualness. new: bool [n], true for images whose hash is not in
    the profile."""
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
    """The class prior of all images, and classes that the champion does not have. The prior of the new images alone is
    no finding, because it is common to add images of a single class."""
    known = len(profile.classes)
    counts, before = np.bincount(labels, minlength=known), profile.counts
    found = []
    if unknown := int(counts[known:].sum()):
        names = ", ".join(name for name in observed.classes if name not in profile.classes)
        alarm = unknown >= params.new_class_images
        found.append(Finding("all", "new classes", unknown, params.new_class_images, None, alarm, f"images of {names}"))
    if not counts[:known].sum():
        return found
    psi, p = prior_shift(counts[:known], before)
    after_share, share = counts[:known] / counts[:known].sum(), before / before.sum()
    order = np.argsort(-np.abs(after_share - share), kind="stable")[:2]
    moved = [f"{profile.classes[k]} {share[k]:.1%} → {after_share[k]:.1%}" for k in order if share[k] != after_share[k]]
    vanished = [profile.classes[k] for k in np.flatnonzero((counts[:known] == 0) & (before > 0))]
    if vanished:
        shown = ", ".join(vanished[:5]) + (f" and {len(vanished) - 5} more" if len(vanished) > 5 else "")
        moved = [f"no images of {shown}"]
    return [Finding("all", "class prior", psi, params.prior_psi, p, False, ", ".join(moved) or "unchanged"), *found]


def statistic_findings(
    profile: Profile, statistics: np.ndarray, labels: np.ndarray, scope: str, params: DriftParams
) -> list[Finding]:
    """A finding for each image statistic, from values [n, statistics] and labels [n]."""
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
    """Mean of a statistic in the profile, accurate to half a bin, with class shares weights [classes]."""
    centres = np.concatenate([edges[:1], (edges[1:] + edges[:-1]) / 2, edges[-1:]])
    totals = histograms.sum(axis=1)
    means = histograms @ centres / np.maximum(totals, 1)
    weights = weights * (totals > 0)
    return float(weights @ means / max(weights.sum(), 1e-12))


def distance_findings(
    profile: Profile, features: np.ndarray, labels: np.ndarray, unusual: Unusual, scope: str, params: DriftParams
) -> list[Finding]:
    """Distance in the reference space and share of unusual images, for new features [k, d] with labels [k]."""
    old, old_labels = profile.features.astype(np.float64), profile.labels
    distance = kernel_distance_within_classes(features, labels, old, old_labels, params.permutations, params.seed)
    found = []
    unit = class_distance(old, old_labels)
    if np.isfinite(distance.of_class).any() and np.isfinite(unit):
        farthest = int(np.nanargmax(distance.of_class))
        detail = f"largest in class {profile.classes[farthest]}: {distance.of_class[farthest] / unit:.2f}"
        found.append(Finding(scope, "distance", distance.value / unit, params.distance, distance.p, False, detail))
    if np.isfinite(unusual.usual):
        detail = f"of {unusual.compared:,} compared; 1.0% of the old images"
        found.append(Finding(scope, "unusual images", unusual.share, params.unusual, unusual.p, False, detail))
    return found
