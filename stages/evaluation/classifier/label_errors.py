"""Labels that are probably wrong, by confident learning from held-out probabilities (Northcutt et al. 2021)."""

import numpy as np

from stages.reference_network.training import ReferenceTraining
from stages.training.scores import softmax


def suspected_labels(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the images with suspicious labels, the classes suggested for them, and scores, worst first.

    probabilities: float64 [n, classes], by a network that was not trained on these images; labels: int [n].

    The confident joint estimates how many labels of each class should be another class. That many images with the label
    are suspicious: those with the largest lead of the other class ("prune by noise rate"), if it leads at all. The
    score, 0.5 to 1, measures the lead: (1 + p(suggested) - p(given)) / 2.
    """
    wrong = estimated_errors(probabilities, labels)
    own = probabilities[np.arange(len(labels)), labels]
    ahead, suggested = np.zeros(len(labels)), labels.copy()
    for given, other in np.argwhere(wrong > 0):
        here = np.flatnonzero(labels == given)
        lead = probabilities[here, other] - own[here]
        most = np.argsort(-lead, kind="stable")[: wrong[given, other]]
        most = most[lead[most] > ahead[here[most]]]  # of two classes that claim an image, the more probable one wins
        ahead[here[most]], suggested[here[most]] = lead[most], other
    order = np.argsort(-ahead, kind="stable")[: np.count_nonzero(ahead)]
    return order, suggested[order], (1 + ahead[order]) / 2


def estimated_errors(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many images labelled i should have been labelled j, int [classes, classes], 0 where i is j.

    An image counts for the most probable of the classes whose probability is at least the mean probability of that
    class over the images with its label. About half of the images, with right and wrong labels alike, count for no
    class: each row of the confident joint is scaled up to the number of images with the label.
    """
    classes = probabilities.shape[1]
    count = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels]
    # A class without images cannot be suggested.
    thresholds = np.where(count > 0, np.bincount(labels, own, classes) / np.maximum(count, 1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted = confident.max(axis=1) >= 0
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels[counted], confident.argmax(axis=1)[counted]), 1)
    np.fill_diagonal(estimated := joint * (count / np.maximum(joint.sum(axis=1), 1))[:, None], 0)
    return np.rint(estimated).astype(int)


def held_out_probabilities(
    images: np.ndarray, labels: np.ndarray, classes: int, *, steps: int, batch_size: int, lr: float, seed: int
) -> np.ndarray:
    """Probabilities float64 [n, classes] of images [n, h, w, c] from networks of the reference's architecture, each
    trained on the other half of the images: every second image of each class."""
    half = np.empty(len(labels), int)
    half[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 2
    probabilities = np.zeros((len(labels), classes))
    for k in range(2):
        held_out, used = half == k, half != k
        training = ReferenceTraining(
            [images[used]], labels[used], classes, steps=steps, batch_size=batch_size, lr=lr, seed=seed
        )
        for _ in training.reports(f"classifier on half {k + 1} of the train set", "lower evaluate_cnn.label_lr"):
            pass
        logits = training.network.predict(images[held_out], batch_size=512, verbose=0)
        probabilities[held_out] = softmax(logits)
    return probabilities
