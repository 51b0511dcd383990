"""How often the gate promotes: `python -m bench.gate`.

Simulates pairs of models of which the truth is known, weighs them by the shipped promotion.yaml with all of its guards,
and prints the share that is promoted, with its 95% interval (Wilson): by luck where the candidate is equal to the
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
# Signal of each class against noise of deviation 1. Recalls are then 0.96, 0.98, 0.84, 0.91, 0.87, 0.97, 0.70, 0.97,
# 0.85, 0.97: those of the default classifier on Fashion-MNIST after 5 epochs of 15,000 images, right on 90%.
STRENGTH = np.array([3.52, 3.83, 2.67, 3.02, 2.77, 3.74, 2.07, 3.66, 2.68, 3.76])
SHARPNESS = 2.2  # of the softmax: NLL 0.31, ECE 0.04 as there
# The part of the noise that a network does not share with another. Two seeds of that classifier disagreed in whether
# they were right on 4.3% of the images (correlation of their errors 0.76); 0.22 gives 4.5%. Networks of another design
# or from other data may agree less: 0.4 gives 7.8%.
OWN = 0.22
A_POINT = 0.080  # added to the signal: 0.010 of accuracy


def classifiers(random: np.random.Generator, count: int, gain: float = 0.0, own: float = OWN):
    """Probabilities [n, 10] of a champion and of a candidate whose signal is `gain` stronger, and labels [n].

    What both see of an image is partly the same, so that they err on the same images; with gain 0 they are equal: they
    could be exchanged.
    """
    labels, shared = random.integers(0, 10, count), random.standard_normal((count, 10), np.float32)
    sides = []
    for added in (0.0, gain):
        logits = np.sqrt(1 - own**2) * shared + own * random.standard_normal((count, 10), np.float32)
        logits[np.arange(count), labels] += STRENGTH[labels] + added
        sides.append(softmax(SHARPNESS * logits))
    return sides[0], sides[1], labels


def generators(random: np.random.Generator, count: int, error: float, candidate_error: float, opposite: bool = False):
    """What a champion and a candidate generate, and features [n, 16] of as many real images.

    Real images are ten clusters, symmetric around 0. Each generator's are shifted by its error, in deviations of a
    cluster. opposite: the candidate's shift is in the other direction, so that for equal errors the two differ and are
    equally far from the real images.
    """
    half = np.random.default_rng(0).standard_normal((5, 16)) * 2
    centres, shift = np.concatenate([half, -half]), np.ones(16)
    labels = random.integers(0, 10, count)

    def images(of: np.ndarray, moved: float) -> np.ndarray:
        return centres[of] + random.standard_normal((count, 16)) + moved * shift

    sides = [
        Generated(images(labels, moved), random.random(count) < 0.96)
        for moved in (error, -candidate_error if opposite else candidate_error)
    ]
    return sides[0], sides[1], images(random.integers(0, 10, count), 0.0)


def promoted_classifiers(cases: int, count: int, gain: float = 0.0, own: float = OWN) -> int:
    """How many of `cases` simulated candidates are promoted."""
    policy, promoted = classifier_policy(), 0
    for case in range(cases):
        champion, candidate, labels = classifiers(np.random.default_rng([case, count]), count, gain, own)
        promoted += compare_classifiers(champion, candidate, labels, CLASSES, policy).promote
    return promoted


def promoted_generators(cases: int, count: int, error: float, candidate_error: float, opposite: bool = False) -> int:
    """How many of `cases` simulated candidates are promoted."""
    policy, promoted = generator_policy(), 0
    for case in range(cases):
        random = np.random.default_rng([case, count])
        champion, candidate, real = generators(random, count, error, candidate_error, opposite)
        promoted += compare_generators(champion, candidate, real, policy).promote
    return promoted


def experiments(cases: int) -> Iterator[tuple[str, Callable[[], int]]]:
    """What is simulated: a name, and what counts the promoted."""
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
    parser.add_argument("--cases", type=int, default=200, help="simulated candidates of each kind; 200 by default")
    cases = parser.parse_args().cases
    for name, promoted in experiments(cases):
        count = promoted()
        low, high = wilson_interval(count / cases, cases)
        print(f"{name:64} {count:4} of {cases} promoted: {count / cases:6.1%} ({low:.1%} to {high:.1%})", flush=True)


if __name__ == "__main__":
    main()
