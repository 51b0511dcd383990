"""Temperature scaling: one number that calibrates a classifier's probabilities (Guo et al. 2017)."""

import numpy as np
from scipy.optimize import minimize_scalar

MAX_TEMPERATURE = 100.0  # the search ends here, and at the inverse


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T at which softmax(logits / T) has the lowest negative log-likelihood of labels int [n].

    logits: [n, classes] of images that the network was not trained on. Above 1 the network was overconfident, below 1
    underconfident. The targets are Platt's (1999): n images support a probability of at most (n + 1) / (n + 2), which
    keeps T away from 0 when the network classifies all n correctly.
    """
    count, classes = logits.shape
    target = np.full((count, classes), 1 / (count + 2) / (classes - 1)) if classes > 1 else np.ones((count, 1))
    target[np.arange(count), labels] = (count + 1) / (count + 2) if classes > 1 else 1.0
    logits = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    linear = (target * logits).sum(axis=1).mean()

    def loss(log_inverse: float) -> float:  # convex in 1 / T, so that the search finds its only minimum
        inverse = np.exp(log_inverse)
        return float(np.log(np.exp(inverse * logits).sum(axis=1)).mean() - inverse * linear)

    bound = np.log(MAX_TEMPERATURE)
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(-found.x))
