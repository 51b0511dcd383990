"""Detects a generator that collapses or diverges during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.distance import pdist

IMAGES_PER_CLASS = 1000  # at most; pairs of them are compared
COLLAPSED_DIVERSITY = 0.1  # below it, the images of a class are nearly identical
# A generator that has not varied yet has collapsed only after this share of the steps, or this many if they are fewer.
GRACE_SHARE, GRACE_STEPS = 0.5, 1000
DIVERGED_RATIO = 3.0  # of the distance to the smallest one so far


def diversity(fake: np.ndarray, real: np.ndarray, labels: np.ndarray) -> float:
    """Mean distance between two generated images of a class divided by that between two real ones: near 0 when a class
    has collapsed to one image, near 1 when it varies like the real images; 1 when the real images are identical.

    fake, real: features float [n, d]; labels int [n] of both, all equal for an unconditional generator.
    """
    classes = [np.flatnonzero(labels == label)[:IMAGES_PER_CLASS] for label in np.unique(labels)]
    classes = [rows for rows in classes if len(rows) > 1] or [np.arange(min(len(labels), IMAGES_PER_CLASS))]
    of_fake, of_real = (np.mean([pdist(features[rows]).mean() for rows in classes]) for features in (fake, real))
    return float(of_fake / of_real) if of_real > 0 else 1.0


def warning(history: Sequence[Mapping[str, float]], steps: int) -> str:
    """A warning about the last of these evaluations, with what to try; empty when there is no problem.

    history: `step`, `val_fd` and `val_diversity` of each evaluation; steps: those of the whole training.
    """
    last, best = history[-1], min(history, key=lambda row: row["val_fd"])
    step, varied = int(last["step"]), max(row["val_diversity"] for row in history) > 2 * COLLAPSED_DIVERSITY
    if last["val_diversity"] < COLLAPSED_DIVERSITY and (varied or step > min(GRACE_SHARE * steps, GRACE_STEPS)):
        return (
            f"the generator makes nearly the same image over and over (at step {step} its images of a class differ "
            f"{last['val_diversity']:.0%} as much as real ones): try gan.loss=relativistic, a higher gan.penalty, "
            "gan.spectral_norm=always, or a lower gan.lr"
        )
    if last["val_fd"] > DIVERGED_RATIO * best["val_fd"]:
        return (
            f"the generator gets worse (Frechet distance {last['val_fd']:.3g} at step {step}, {best['val_fd']:.3g} at "
            f"step {int(best['step'])}): try a lower gan.lr, a higher gan.penalty, gan.average=0.999, or with few "
            "images gan.diff_augment=[translation,cutout]; the best generator so far is kept"
        )
    return ""
