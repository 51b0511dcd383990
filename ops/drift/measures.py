"""Differences between new and old images, as functions of counts and features.

All comparisons of images are made within classes: more images of shoes change the class prior, and nothing else. They
are valid for any number of images: every p-value is conditional on the numbers of old and new images in each class.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import betabinom, chi2

from stages.evaluation.generator.distances import kernel_diagonal, kernel_matrix

GROUPS = 10  # of equal weight, into which a statistic's bins are merged for the PSI
MIN_IMAGES = 10  # old and new images in a group of a test
PERMUTATIONS_AT_A_TIME = 2000
NEIGHBOURS = 5
RARE = 0.01  # share of the old images that count as unusual


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values adjusted for their number (Holm 1979): rejecting those below a level bounds the probability of any false
    rejection by this level, however the tests depend on each other."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def stability_index(new: np.ndarray, old: np.ndarray) -> float:
    """Population stability index of counts new and old [groups]: the sum of (q - p) log(q / p) over the shares, with
    half an image added to each count so that empty groups have a finite one. Below 0.1 is read as no change, above 0.25
    as a major one (Siddiqi 2006); two samples of one distribution give about (groups - 1) (1 / n + 1 / m) (Yurdakul
    2018)."""
    q, p = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (new, old))
    return float(np.sum((q - p) * np.log(q / p)))


def reweighted(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """The old counts [classes, groups], summed to [groups] with the class shares of the new counts. Classes without old
    images are left out; the total is that of the others."""
    known = old.sum(axis=1) > 0
    new, old = new[known], old[known]
    weights = new.sum(axis=1) / max(1, new.sum())
    return old.sum() * (weights @ (old / old.sum(axis=1, keepdims=True)))


def homogeneity(new: np.ndarray, old: np.ndarray) -> float:
    """p-value for counts new and old [classes, groups] having the same distribution over the groups within each class:
    the generalised Cochran-Mantel-Haenszel test (Landis, Heyman & Koch 1978). With one class it is Pearson's chi-square
    test, its statistic times (n - 1) / n. No group should be nearly empty, see `joined`."""
    total = (new + old).astype(float)
    n, both = new.sum(axis=1, dtype=float), total.sum(axis=1)
    usable = (both > 1) & (n > 0) & (n < both)
    total, n, both = total[usable], n[usable], both[usable]
    excess = (new[usable] - total * (n / both)[:, None]).sum(axis=0)
    scale = n * (both - n) / (both**2 * (both - 1))
    covariance = np.diag((scale * both) @ total) - (total * scale[:, None]).T @ total
    freedom = int(np.sum(total.sum(axis=0) > 0)) - 1
    if freedom < 1:
        return 1.0
    return float(chi2.sf(excess @ np.linalg.pinv(covariance, hermitian=True) @ excess, freedom))


def equal_groups(old: np.ndarray) -> np.ndarray:
    """The group, 0 to 9, of each bin of counts old [bins]: groups of equal weight, as far as whole bins allow. Bins
    below and above all old images belong to the first and the last group."""
    before = np.cumsum(old) - old / 2
    return np.minimum(before / max(1, old.sum()) * GROUPS, GROUPS - 1).astype(int)


def joined(totals: np.ndarray) -> np.ndarray:
    """The merged group of each group of counts totals [groups]: merges neighbours until each has 10 or more images. The
    totals are of old and new images together, on which the tests are conditional."""
    found, current, filled = np.empty(len(totals), int), 0, 0
    for index, images in enumerate(totals):
        found[index], filled = current, filled + images
        if filled >= MIN_IMAGES:
            current, filled = current + 1, 0
    return np.minimum(found, max(0, current - 1))  # the remainder belongs to the last group


def regroup(counts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Counts [..., bins] summed by the group of each bin, [..., groups]."""
    return counts @ (groups[:, None] == np.arange(groups.max() + 1)).astype(counts.dtype)


class Shift(NamedTuple):
    """The PSI and the p-value of one distribution."""

    psi: float
    p: float


def prior_shift(new: np.ndarray, old: np.ndarray) -> Shift:
    """The shift of the class prior, from counts [classes]; rare classes are merged for the test."""
    rare_first = np.argsort(new + old, kind="stable")
    new, old = new[rare_first], old[rare_first]
    groups = joined(new + old)
    return Shift(stability_index(new, old), homogeneity(regroup(new, groups)[None], regroup(old, groups)[None]))


def statistic_shift(new: np.ndarray, old: np.ndarray) -> Shift:
    """The shift of one statistic within the classes, from counts [classes, bins]."""
    known = (old.sum(axis=1) > 0) & (new.sum(axis=1) > 0)
    if not known.any():
        return Shift(0.0, 1.0)
    tenths = equal_groups(reweighted(new[known], old[known]))
    new, old = regroup(new[known], tenths), regroup(old[known], tenths)
    filled = (new + old).sum(axis=0) > 0
    new, old = new[:, filled], old[:, filled]
    psi = stability_index(new.sum(axis=0), reweighted(new, old))
    groups = joined((new + old).sum(axis=0))
    return Shift(psi, homogeneity(regroup(new, groups), regroup(old, groups)))


class Distance(NamedTuple):
    """Kernel distance between new and old features."""

    value: float  # unbiased
    p: float  # by permutation within the classes
    of_class: np.ndarray  # [classes]; NaN where one side has fewer than two images


def kernel_distance_within_classes(
    new: np.ndarray, new_labels: np.ndarray, old: np.ndarray, old_labels: np.ndarray, permutations: int, seed: int
) -> Distance:
    """Unbiased squared maximum mean discrepancy (Gretton et al. 2012) with the kernel (x.y / d + 1)^3 of KID (Binkowski
    et al. 2018) between new and old features [n, d] of each class, averaged over the classes with the class shares of
    the new images. A permutation exchanges old and new images within each class.

    Classes of new_labels that old_labels do not have are left out.
    """
    random, classes = np.random.default_rng(seed), int(old_labels.max()) + 1
    n, m = (np.bincount(labels[labels < classes], minlength=classes) for labels in (new_labels, old_labels))
    usable = np.flatnonzero((n > 1) & (m > 1))
    of_class, drawn = np.full(classes, np.nan), np.zeros(permutations)
    if not len(usable):
        return Distance(0.0, 1.0, of_class)
    weights = n / n[usable].sum()
    for label in usable:
        features = np.concatenate([new[new_labels == label], old[old_labels == label]]).astype(np.float32)
        kernel = kernel_matrix(features, features)
        np.fill_diagonal(kernel, 0)
        is_new = (np.arange(len(features)) < n[label]).astype(np.float32)
        of_class[label] = _discrepancies(kernel, is_new[:, None])[0]
        for start in range(0, permutations, PERMUTATIONS_AT_A_TIME):
            part = slice(start, min(permutations, start + PERMUTATIONS_AT_A_TIME))
            swapped = random.permuted(np.tile(is_new, (part.stop - start, 1)), axis=1).T
            drawn[part] += weights[label] * _discrepancies(kernel, swapped)
    value = float(weights[usable] @ of_class[usable])
    return Distance(value, float((1 + np.sum(drawn >= value)) / (1 + permutations)), of_class)


def _discrepancies(kernel: np.ndarray, is_new: np.ndarray) -> np.ndarray:
    """Unbiased squared discrepancies [k] from a kernel [n, n] with zeros on its diagonal and memberships [n, k]."""
    n = is_new[:, 0].sum(dtype=np.float64)
    m = len(kernel) - n
    row_sums = kernel.sum(axis=1, dtype=np.float64)
    within_new = np.einsum("ik,ik->k", is_new, kernel @ is_new, dtype=np.float64)
    across = row_sums @ is_new - within_new
    within_old = row_sums.sum() - 2 * across - within_new
    return within_new / (n * (n - 1)) + within_old / (m * (m - 1)) - 2 * across / (n * m)


def class_distance(features: np.ndarray, labels: np.ndarray) -> float:
    """The same kernel distance between two of the old classes, averaged over all pairs: the unit for
    `kernel_distance_within_classes`. NaN when fewer than two classes have two images."""
    counts = np.bincount(labels)
    members = [features[labels == label].astype(np.float32) for label in np.flatnonzero(counts > 1)]
    if len(members) < 2:
        return float("nan")
    means = np.array([[kernel_matrix(a, b).mean(dtype=np.float64) for b in members] for a in members])
    for index, a in enumerate(members):
        means[index, index] = (means[index, index] * len(a) - kernel_diagonal(a).mean()) / (len(a) - 1)
    pairs = len(members) * (len(members) - 1)
    return float(2 * (np.trace(means) / len(members) - (means.sum() - np.trace(means)) / pairs))


class Unusual(NamedTuple):
    """The distances of images from the old images of their class."""

    scores: np.ndarray  # [n], in units of the median distance in the class
    usual: float  # the score that 1% of the old images exceed
    compared: int  # number of new images of classes with old images
    share: float  # the share of these with a higher score than `usual`
    p: float  # the probability of at least as many if they were like the old images


def unusualness(new: np.ndarray, new_labels: np.ndarray, old: np.ndarray, old_labels: np.ndarray) -> Unusual:
    """Distances of new features [n, d] to their 5th nearest old neighbour of the same class, relative to the distances
    between old images (k-nearest-neighbour outliers, Ramaswamy et al. 2000). Images of a class without old images are
    compared with all old images, and not counted in the share. The number of new images beyond an order statistic of
    the old ones is beta-binomial for any distribution.
    """
    scores, old_scores, known = np.empty(len(new)), [], np.zeros(len(new), bool)
    for label in np.unique(np.concatenate([new_labels, old_labels])):
        chosen, peers = new_labels == label, old[old_labels == label]
        known[chosen] = comparable = len(peers) > 2
        if not comparable:
            peers = old
        k = min(NEIGHBOURS, len(peers) - 1)
        old_distances = _kth_nearest(peers, peers, k)  # the 0th neighbour is the image itself
        unit = max(float(np.median(old_distances)), 1e-12)
        scores[chosen] = _kth_nearest(new[chosen], peers, k - 1) / unit
        if comparable:
            old_scores.append(old_distances / unit)
    if not known.any():
        return Unusual(scores, float("nan"), 0, 0.0, 1.0)
    ordered = np.sort(np.concatenate(old_scores))
    beyond = max(1, int(RARE * len(ordered)))  # old images above the limit
    limit = float(ordered[-beyond - 1])
    count, total = int(np.sum(scores[known] > limit)), int(known.sum())
    p = float(betabinom.sf(count - 1, total, beyond + 1, len(ordered) - beyond))
    return Unusual(scores, limit, total, count / total, p)


def _kth_nearest(points: np.ndarray, centres: np.ndarray, k: int) -> np.ndarray:
    """Distance [n] of each point to the (k+1)-th nearest centre."""
    found = [np.partition(cdist(points[s : s + 1000], centres), k, axis=1)[:, k] for s in range(0, len(points), 1000)]
    return np.concatenate(found) if found else np.empty(0)
