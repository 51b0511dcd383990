"""Temperature scaling: one number that makes a classifier's probabilities mean what they say (Guo et al. 2017)."""

import numpy as np
from scipy.optimize import minimize_scalar

HOTTEST = 100.0  # a temperature beyond which, and below whose inverse, none is looked for


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T at which softmax(logits / T) has the lowest negative log-likelihood of labels int [n].

    logits: [n, classes] of images that the network was not trained on. Above 1 the network was too sure of itself,
    below 1 not sure enough. The targets are Platt's (1999): what n images can tell is at best n + 1 right of n + 2,
    which keeps T away from 0 where all n are right.
    """
    count, classes = logits.shape
    target = np.full((count, classes), 1 / (count + 2) / (classes - 1)) if classes > 1 else np.ones((count, 1))
    target[np.arange(count), labels] = (count + 1) / (count + 2) if classes > 1 else 1.0
    logits = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    linear = (target * logits).sum(axis=1).mean()

    def loss(log_inverse: float) -> float:  # convex in 1 / T, so that its only minimum is found
        inverse = np.exp(log_inverse)
        return float(np.log(np.exp(inverse * logits).sum(axis=1)).mean() - inverse * linear)

    bound = np.log(HOTTEST)
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(-found.x))
