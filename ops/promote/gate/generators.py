"""Compares a generator with the champion by the images of both for the same labels, in the reference space.

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
    """A generator's images in the reference space; the k-th images of two generators are of the same class."""

    features: np.ndarray  # float64 [n, d]
    label_hits: np.ndarray  # bool [n]: the reference recognises the requested class


def compare_generators(
    champion: Generated | None, candidate: Generated, real: np.ndarray, policy: GeneratorPolicy
) -> Decision:
    """Compares two generators by images for the same n labels, against features [m, d] of test images. Without a
    champion, only the policy's floors apply.

    The difference of their kernel distances has to pass two tests, because they complement each other. The permutation
    test (`kernel_test`) is exact for two generators of one distribution, for any sample. The interval is also valid for
    different generators that are equally far from the real images, and includes the sampling error of the test images.
    Precision and label accuracy: independent proportions (Newcombe 1998). Recall: paired over the real images. Raises
    ValueError when the shapes do not agree.
    """
    expected = candidate.features.shape[:1] + real.shape[1:]
    for side in (candidate,) if champion is None else (candidate, champion):
        if side.features.shape != expected or len(side.label_hits) != len(side.features):
            raise ValueError(
                f"expected features {list(expected)} and a hit for each, got features {list(side.features.shape)} and "
                f"{len(side.label_hits)} hits"
            )
    judge = Judge(GAN, policy, champion is None)
    metrics, recalled = gate_metrics(candidate, real)
    if champion is None:
        for name, value in metrics.items():
            judge.metric(name, None, value)
        return judge.decision()
    champion_metrics, champion_recalled = gate_metrics(champion, real)
    test = kernel_test(champion.features, candidate.features, real, policy.permutations, policy.seed)
    z = NormalDist().inv_cdf(1 - policy.level)
    gains = recalled.astype(float) - champion_recalled
    intervals = {
        "kid": _normal_interval(test.difference, test.error, z),
        "recall": _normal_interval(gains.mean(), gains.std(ddof=1) / np.sqrt(len(real)), z),
    } | {
        name: newcombe_interval(champion_metrics[name], metrics[name], len(candidate.label_hits), z)
        for name in ("precision", "label_accuracy")
    }
    for name, value in metrics.items():
        judge.metric(name, champion_metrics[name], value, intervals.get(name), test.p if name == policy.main else None)
    return judge.decision()


def gate_metrics(generated: Generated, real: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """A generator's metrics by their names in metrics.json, and whether each real image lies in its manifold, bool [m].
    The KID uses all images, not subsets, so that the difference of two has a closed form."""
    recalled = inside_manifold(real, generated.features)
    metrics = {
        "kid": kernel_distance(generated.features, real),
        "fd": frechet_distance(generated.features, real),
        "precision": float(inside_manifold(generated.features, real).mean()),
        "recall": float(recalled.mean()),
        "label_accuracy": float(generated.label_hits.mean()),
    }
    return metrics, recalled


def _normal_interval(value: float, error: float, z: float) -> tuple[float, float]:
    return float(value - z * error), float(value + z * error)


class KernelTest(NamedTuple):
    """The outcome of `kernel_test`."""

    difference: float  # KID of the candidate - KID of the champion: below 0 is better
    error: float  # standard error of it
    p: float  # one-sided: the probability of a candidate as good as this when both generators have one distribution


def kernel_test(
    champion: np.ndarray, candidate: np.ndarray, real: np.ndarray, permutations: int, seed: int
) -> KernelTest:
    """Tests whether the candidate's images [n, d] are closer to the real ones [m, d] than the champion's [n, d].

    The statistic is the difference of the two unbiased kernel distances (Bounliphone et al. 2016), in which the term of
    the real images cancels. With signs s = 1 for the candidate's images and -1 for the champion's, and K the kernel
    between all 2n with a diagonal of 0, the difference of the sums within each set is 1'Ks: linear in s, as are the
    other terms. Therefore a permutation costs one scalar product. It swaps images within pairs of the same class: exact
    for generators of one distribution, and not widened by differences between classes.

    The error is from the first-order jackknife for U-statistics (Arvesen 1969): the spread of the contributions of each
    pair and each real image.
    """
    n, m = len(candidate), len(real)
    pooled = np.concatenate([candidate, champion])
    to_generated, to_real = kernel_sums(pooled, pooled) - kernel_diagonal(pooled), kernel_sums(pooled, real)
    weights = to_generated / (n * (n - 1)) - 2 * to_real / (n * m)
    swaps = weights[:n] - weights[n:]
    difference = float(swaps.sum())
    signs = np.random.default_rng(seed).integers(0, 2, (permutations, n), dtype=np.int8) * 2 - 1
    as_good = int(np.sum(signs @ swaps <= difference + 1e-12 * np.abs(swaps).sum()))

    contributions = [
        (kernel_sums(x, x) - kernel_diagonal(x)) / (n - 1) - part / m
        for x, part in ((candidate, to_real[:n]), (champion, to_real[n:]))
    ]
    real_contributions = (kernel_sums(real, champion) - kernel_sums(real, candidate)) / n
    pairs = contributions[0] - contributions[1]
    variance = 4 * (np.var(pairs, ddof=1) / n + np.var(real_contributions, ddof=1) / m)
    return KernelTest(difference, float(np.sqrt(variance)), (1 + as_good) / (1 + permutations))


def newcombe_interval(before: float, after: float, count: int, z: float) -> tuple[float, float]:
    """The interval of the difference after - before of two independent proportions of `count` each, from their Wilson
    intervals (Newcombe 1998, method 10): its width is not 0 at proportions of 0 or 1."""
    (low_before, high_before), (low_after, high_after) = (wilson_interval(share, count, z) for share in (before, after))
    difference = after - before
    return (
        float(difference - np.hypot(after - low_after, high_before - before)),
        float(difference + np.hypot(high_after - after, before - low_before)),
    )
