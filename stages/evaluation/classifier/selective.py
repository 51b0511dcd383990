"""Selective classification: the risk of a classifier that may abstain on the images that it is least sure of."""

import numpy as np


def risk_coverage(confidence: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk, [n] each: the share of images answered, most confident first, and the share of mistakes among
    them (El-Yaniv & Wiener 2010).

    The order of images with equal confidence is random: the risk is the mean over all such orders.
    """
    values, group, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    mistakes = np.bincount(group, ~hits, len(values)) / size
    answered = np.arange(1, len(hits) + 1)
    return answered / len(hits), np.cumsum(np.repeat(mistakes, size)) / answered


def area_under_risk_coverage(confidence: np.ndarray, hits: np.ndarray) -> float:
    """Mean risk over all coverages (AURC, Geifman & El-Yaniv 2017): 0 at best, the share of mistakes for an
    uninformative confidence."""
    return float(risk_coverage(confidence, hits)[1].mean())
