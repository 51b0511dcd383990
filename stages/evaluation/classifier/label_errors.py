"""Labels that are probably wrong, from probabilities that the images themselves had no part in: confident learning
(Northcutt, Jiang & Chuang 2021)."""

import numpy as np

from stages.reference_network.training import ReferenceTraining
from stages.training.scores import softmax


def suspected_labels(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the images whose label is suspected, the classes suggested for them, and scores, worst first.

    probabilities: float64 [n, classes], by a network that was not trained on these images; labels: int [n].

    The confident joint says how many labels of each class should be another. Of the images with that label, as many are
    suspected: those for which the other class is most ahead ("prune by noise rate"), if it is ahead at all. The score,
    0.5 to 1, says by how much: (1 + p(suggested) - p(given)) / 2.
    """
    wrong = estimated_errors(probabilities, labels)
    own = probabilities[np.arange(len(labels)), labels]
    ahead, suggested = np.zeros(len(labels)), labels.copy()
    for of, to in np.argwhere(wrong > 0):
        here = np.flatnonzero(labels == of)
        lead = probabilities[here, to] - own[here]
        most = np.argsort(-lead, kind="stable")[: wrong[of, to]]
        most = most[lead[most] > ahead[here[most]]]  # where two classes claim an image, the more probable one has it
        ahead[here[most]], suggested[here[most]] = lead[most], to
    order = np.argsort(-ahead, kind="stable")[: np.count_nonzero(ahead)]
    return order, suggested[order], (1 + ahead[order]) / 2


def estimated_errors(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many images labelled i should have been labelled j, int [classes, classes], 0 where i is j.

    An image counts for every class whose probability is at least the mean probability of that class over the images
    that carry its label; of these, for the most probable one. About half of the images count for none, of the wrong
    labels as of the right ones: each row of the confident joint is scaled up to the images that carry the label.
    """
    classes = probabilities.shape[1]
    count = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels]
    # A class that no image has cannot be suggested.
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
    """Probabilities float64 [n, classes] of images [n, h, w, c] by networks of the reference's design that were trained
    on the other half of them: every second image of each class."""
    half = np.empty(len(labels), int)
    half[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 2
    probabilities = np.zeros((len(labels), classes))
    for k in range(2):
        inside, outside = half == k, half != k
        training = ReferenceTraining(
            [images[outside]], labels[outside], classes, steps=steps, batch_size=batch_size, lr=lr, seed=seed
        )
        for _ in training.reports(f"classifier on half {k + 1} of the train set", "lower evaluate_cnn.label_lr"):
            pass
        logits = training.network.predict(images[inside], batch_size=512, verbose=0)
        probabilities[inside] = softmax(logits)
    return probabilities
