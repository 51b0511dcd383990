"""Weighs a generator against the champion by the images that both make for the same labels, in the reference space.

Functions of arrays.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ops.project.networks import GAN
from ops.promote.gate.decision import Decision, Judge
from ops.promote.gate.policy import GeneratorPolicy
from stages.evaluation.classifier.scores import wilson_interval
from stages.evaluation.generator.distances import inside_manifold, kernel_diagonal, kernel_distance, kernel_sums
from stages.generator.distances import frechet_distance


class Generated(NamedTuple):
    """What a generator made, in the reference space; the k-th images of two generators are of the same class."""

    features: np.ndarray  # float64 [n, d]
    label_hits: np.ndarray  # bool [n]: the reference sees the class that was asked for


def compare_generators(
    champion: Generated | None, candidate: Generated, real: np.ndarray, policy: GeneratorPolicy
) -> Decision:
    """Weighs two generators by images made for the same n labels, against features [m, d] of test images; one without a
    champion is held to the policy's floors alone.

    The difference of their kernel distances has to pass two tests, because each covers what the other does not. The
    permutation test (`kernel_test`) is exact for two generators of one distribution, whatever the sample. The interval
    also holds for generators that differ and are equally far from the real images, and contains the luck of which test
    images there are. Precision and label accuracy: independent shares (Newcombe 1998). Recall: paired over the real
    images. Raises ValueError when the shapes do not agree.
    """
    expected = candidate.features.shape[:1] + real.shape[1:]
    for side in (candidate,) if champion is None else (candidate, champion):
        if side.features.shape != expected or len(side.label_hits) != len(side.features):
            raise ValueError(
                f"expected features {list(expected)} and a hit for each, got features {list(side.features.shape)} and "
                f"{len(side.label_hits)} hits"
            )
    judge = Judge(GAN, policy, champion is None)
    ours, our_recalled = weighed_figures(candidate, real)
    if champion is None:
        for name, value in ours.items():
            judge.metric(name, None, value)
        return judge.decision()
    theirs, their_recalled = weighed_figures(champion, real)
    test = kernel_test(champion.features, candidate.features, real, policy.permutations, policy.seed)
    z = NormalDist().inv_cdf(1 - policy.level)
    recalled = our_recalled.astype(float) - their_recalled
    intervals = {
        "kid": _normal_interval(test.difference, test.error, z),
        "recall": _normal_interval(recalled.mean(), recalled.std(ddof=1) / np.sqrt(len(real)), z),
    } | {
        name: newcombe_interval(theirs[name], ours[name], len(candidate.label_hits), z)
        for name in ("precision", "label_accuracy")
    }
    for name, value in ours.items():
        judge.metric(name, theirs[name], value, intervals.get(name), test.p if name == policy.main else None)
    return judge.decision()


def weighed_figures(made: Generated, real: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """The figures of a generator by their names in metrics.json, and which of the real images lie in its manifold, bool
    [m]. The KID is that of all images, not of subsets: the difference of two has a closed form."""
    recalled = inside_manifold(real, made.features)
    figures = {
        "kid": kernel_distance(made.features, real),
        "fd": frechet_distance(made.features, real),
        "precision": float(inside_manifold(made.features, real).mean()),
        "recall": float(recalled.mean()),
        "label_accuracy": float(made.label_hits.mean()),
    }
    return figures, recalled


def _normal_interval(value: float, error: float, z: float) -> tuple[float, float]:
    return float(value - z * error), float(value + z * error)


class KernelTest(NamedTuple):
    """The outcome of `kernel_test`."""

    difference: float  # KID of the candidate - KID of the champion: below 0 is better
    error: float  # standard error of it
    p: float  # one-sided: how often two generators of one distribution give as good a candidate


def kernel_test(
    champion: np.ndarray, candidate: np.ndarray, real: np.ndarray, permutations: int, seed: int
) -> KernelTest:
    """Whether the candidate's images [n, d] are closer to the real ones [m, d] than the champion's [n, d].

    The statistic is the difference of the two unbiased kernel distances (Bounliphone et al. 2016), in which the term of
    the real images cancels. With signs s = 1 for the candidate's images and -1 for the champion's, and K the kernel
    between all 2n with a diagonal of 0, the difference of the two sums within is 1'Ks: linear in s, and so is the rest.
    Therefore a permutation costs one scalar product. Permuted is within each pair that was asked for the same class:
    exact for generators of one distribution, and not widened by classes that differ.

    The error is that of the jackknife for U-statistics (Arvesen 1969) to first order: the spread of what each pair and
    each real image adds.
    """
    n, m = len(candidate), len(real)
    pooled = np.concatenate([candidate, champion])
    to_generated, to_real = kernel_sums(pooled, pooled) - kernel_diagonal(pooled), kernel_sums(pooled, real)
    weights = to_generated / (n * (n - 1)) - 2 * to_real / (n * m)
    swaps = weights[:n] - weights[n:]
    difference = float(swaps.sum())
    signs = np.random.default_rng(seed).integers(0, 2, (permutations, n), dtype=np.int8) * 2 - 1
    as_good = int(np.sum(signs @ swaps <= difference + 1e-12 * np.abs(swaps).sum()))

    each = [
        (kernel_sums(x, x) - kernel_diagonal(x)) / (n - 1) - part / m
        for x, part in ((candidate, to_real[:n]), (champion, to_real[n:]))
    ]
    reals = (kernel_sums(real, champion) - kernel_sums(real, candidate)) / n
    variance = 4 * (np.var(each[0] - each[1], ddof=1) / n + np.var(reals, ddof=1) / m)
    return KernelTest(difference, float(np.sqrt(variance)), (1 + as_good) / (1 + permutations))


def newcombe_interval(before: float, after: float, count: int, z: float) -> tuple[float, float]:
    """Interval of the difference after - before of two independent shares of `count` each, made of their Wilson
    intervals (Newcombe 1998, method 10): it does not shrink to nothing at shares of 0 or 1."""
    (low_before, high_before), (low_after, high_after) = (wilson_interval(share, count, z) for share in (before, after))
    difference = after - before
    return (
        float(difference - np.hypot(after - low_after, high_before - before)),
        float(difference + np.hypot(high_after - after, before - low_before)),
    )
