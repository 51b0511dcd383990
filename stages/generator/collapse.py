"""Tells whether a generator collapses or diverges while it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.distance import pdist

IMAGES = 1000  # of a class at most are compared with each other
COLLAPSED = 0.1  # diversity below which the images of a class are nearly one and the same
ALLOWED = 0.5, 1000  # share of the training, at most so many steps, in which one may not yet have come to vary
DIVERGED = 3.0  # times the best distance so far


def diversity(fake: np.ndarray, real: np.ndarray, labels: np.ndarray) -> float:
    """Mean distance between two generated images of a class over that between two real ones: near 0 when a class has
    collapsed to one image, near 1 when it varies as the real ones do; 1 where the real ones are all the same.

    fake, real: features float [n, d]; labels int [n] of both, all the same for a generator that takes none.
    """
    classes = [np.flatnonzero(labels == label)[:IMAGES] for label in np.unique(labels)]
    classes = [rows for rows in classes if len(rows) > 1] or [np.arange(min(len(labels), IMAGES))]
    of_fake, of_real = (np.mean([pdist(features[rows]).mean() for rows in classes]) for features in (fake, real))
    return float(of_fake / of_real) if of_real > 0 else 1.0


def warning(history: Sequence[Mapping[str, float]], steps: int) -> str:
    """What the last of these evaluations gives reason to warn of, and what to try; empty when all is well.

    history: `step`, `val_fd` and `val_diversity` of each evaluation; steps: those of the whole training.
    """
    last, best = history[-1], min(history, key=lambda row: row["val_fd"])
    step, varied = int(last["step"]), max(row["val_diversity"] for row in history) > 2 * COLLAPSED
    if last["val_diversity"] < COLLAPSED and (varied or step > min(ALLOWED[0] * steps, ALLOWED[1])):
        return (
            f"the generator makes nearly the same image over and over (in step {step} its images of a class differ "
            f"{last['val_diversity']:.0%} as much as real ones): try gan.loss=relativistic, a higher gan.penalty, "
            "gan.spectral_norm=always, or a lower gan.lr"
        )
    if last["val_fd"] > DIVERGED * best["val_fd"]:
        return (
            f"the generator gets worse (Frechet distance {last['val_fd']:.3g} in step {step}, {best['val_fd']:.3g} in "
            f"step {int(best['step'])}): try a lower gan.lr, a higher gan.penalty, gan.average=0.999, or with few "
            "images gan.diff_augment=[translation,cutout]; the best generator so far is kept"
        )
    return ""
