"""Metrics that every training needs, of class probabilities float64 [n, classes] and labels int [n]."""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [n, classes] from logits, in float64 so that they sum to 1."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose most probable class is the label."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log p(label), in nats."""
    return float(np.mean(log_losses(probabilities, labels)))


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log p(label) of each image [n], in nats; at most 27.6, the loss at a probability of 1e-12."""
    return -np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-12, None))
