"""Measures how often the gate promotes: `python -m bench.gate`.

Simulates pairs of models with known quality, compares them by the shipped promotion.yaml with all its guards, and
prints the share of promoted candidates with its 95% interval (Wilson): false promotions where the candidate equals the
champion, and the power where it is better. It takes minutes; `--cases 50` is quicker.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ops.promote.gate.classifiers import compare_classifiers
from ops.promote.gate.generators import Generated, compare_generators
from ops.promote.gate.policy import classifier_policy, generator_policy
from stages.evaluation.classifier.scores import wilson_interval
from stages.training.scores import softmax

CLASSES = [f"class {k}" for k in range(10)]
# The signal of each class, for noise of standard deviation 1. It gives recalls of 0.96, 0.98, 0.84, 0.91, 0.87, 0.97,
# 0.70, 0.97, 0.85 and 0.97: those of the default classifier on Fashion-MNIST after 5 epochs of 15,000 images, accuracy
# 90%.
STRENGTH = np.array([3.52, 3.83, 2.67, 3.02, 2.77, 3.74, 2.07, 3.66, 2.68, 3.76])
SHARPNESS = 2.2  # of the softmax: NLL 0.31, ECE 0.04 as for that classifier
# The part of the noise that two networks do not share. Two seeds of that classifier disagreed in their correctness on
# 4.3% of the images (correlation of their errors 0.76); 0.22 gives 4.5%. Networks of another design or from other data
# may agree less: 0.4 gives 7.8%.
INDEPENDENCE = 0.22
A_POINT = 0.080  # added to the signal: 0.010 of accuracy


def classifiers(random: np.random.Generator, count: int, gain: float = 0.0, independence: float = INDEPENDENCE):
    """Probabilities [n, 10] of a champion and of a candidate whose signal is `gain` stronger, and labels [n].

    Part of their noise is the same, so that they make errors on the same images; with gain 0 they are exchangeable.
    """
    labels, shared = random.integers(0, 10, count), random.standard_normal((count, 10), np.float32)
    pair = []
    for added in (0.0, gain):
        noise = random.standard_normal((count, 10), np.float32)
        logits = np.sqrt(1 - independence**2) * shared + independence * noise
        logits[np.arange(count), labels] += STRENGTH[labels] + added
        pair.append(softmax(SHARPNESS * logits))
    return pair[0], pair[1], labels


def generators(random: np.random.Generator, count: int, error: float, candidate_error: float, opposite: bool = False):
    """Generated images of a champion and a candidate, and features [n, 16] of as many real images.

    Real images are ten clusters, symmetric around 0. Each generator's clusters are shifted by its error, in standard
    deviations of a cluster. opposite: the candidate's shift is in the other direction, so that with equal errors the
    two differ and are equally far from the real images.
    """
    half = np.random.default_rng(0).standard_normal((5, 16)) * 2
    centres, shift = np.concatenate([half, -half]), np.ones(16)
    labels = random.integers(0, 10, count)

    def images(labels: np.ndarray, error: float) -> np.ndarray:
        return centres[labels] + random.standard_normal((count, 16)) + error * shift

    pair = [
        Generated(images(labels, each), random.random(count) < 0.96)
        for each in (error, -candidate_error if opposite else candidate_error)
    ]
    return pair[0], pair[1], images(random.integers(0, 10, count), 0.0)


def promoted_classifiers(cases: int, count: int, gain: float = 0.0, independence: float = INDEPENDENCE) -> int:
    """The number of promoted candidates among `cases` simulated ones."""
    policy, promoted = classifier_policy(), 0
    for case in range(cases):
        champion, candidate, labels = classifiers(np.random.default_rng([case, count]), count, gain, independence)
        promoted += compare_classifiers(champion, candidate, labels, CLASSES, policy).promote
    return promoted


def promoted_generators(cases: int, count: int, error: float, candidate_error: float, opposite: bool = False) -> int:
    """The number of promoted candidates among `cases` simulated ones."""
    policy, promoted = generator_policy(), 0
    for case in range(cases):
        random = np.random.default_rng([case, count])
        champion, candidate, real = generators(random, count, error, candidate_error, opposite)
        promoted += compare_generators(champion, candidate, real, policy).promote
    return promoted


def experiments(cases: int) -> Iterator[tuple[str, Callable[[], int]]]:
    """The simulations: a name, and a function that returns the number of promoted candidates."""
    for count in (400, 2000, 10_000):
        yield f"classifier, {count:,} images, equal", partial(promoted_classifiers, cases, count)
        for points in (0.25, 0.5, 1.0, 2.0):
            name = f"classifier, {count:,} images, {points:g} points better"
            yield name, partial(promoted_classifiers, cases, count, A_POINT * points)
    for name, gain in (("equal", 0.0), ("1 point better", A_POINT)):
        name = f"classifier, 10,000 images, {name}, errors overlap less"
        yield name, partial(promoted_classifiers, cases, 10_000, gain, 0.4)
    for count in (400, 1000):
        name = f"generator, {count:,} images"
        yield f"{name}, equal", partial(promoted_generators, cases, count, 0.2, 0.2)
        yield f"{name}, different, equally far", partial(promoted_generators, cases, count, 0.2, 0.2, True)
        for error in (0.4, 0.6, 0.8):
            yield f"{name}, error {error:g} down to 0.2", partial(promoted_generators, cases, count, error, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200, help="simulated candidates per kind; default: %(default)s")
    cases = parser.parse_args().cases
    for name, promoted in experiments(cases):
        count = promoted()
        low, high = wilson_interval(count / cases, cases)
        print(f"{name:64} {count:4} of {cases} promoted: {count / cases:6.1%} ({low:.1%} to {high:.1%})", flush=True)


if __name__ == "__main__":
    main()
