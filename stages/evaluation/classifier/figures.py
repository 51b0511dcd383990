"""Pictures of a classifier's quality and mistakes; see stages/drawing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.drawing.grids import image_grid
from stages.drawing.plots import COLOURS, confusion_picture, panel_axes, reliability_picture
from stages.evaluation.classifier.scores import calibration_bins, confusion_matrix, expected_calibration_error

SHOWN_MISTAKES, SHOWN_PAIRS, SHOWN_PER_PAIR = 24, 8, 8


def draw_classifier(folder: Path, images, labels, probabilities, classes: Sequence[str]) -> None:
    """Confusion matrix, reliability diagram and worst mistakes."""
    confusion_picture(confusion_matrix(probabilities, labels), classes, folder / "confusion.png")
    bins = calibration_bins(probabilities, labels)
    error = expected_calibration_error(probabilities, labels)
    reliability_picture(*bins, error, folder / "reliability.png")
    predicted, worst = probabilities.argmax(axis=1), worst_mistakes(probabilities, labels)[:SHOWN_MISTAKES]
    draw_grid(
        folder / "mistakes.png",
        images[worst],
        [f"{classes[labels[i]]} > {classes[predicted[i]]}" for i in worst],
        title="most confident mistakes: class > prediction",
        empty_text="no mistake",
        shape=images.shape[1:],
    )


def worst_mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices of the images that are classified wrong, the most confident first."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    return wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]


def draw_grid(
    path: Path, images: np.ndarray, captions: Sequence[str], *, title: str, empty_text: str, shape: Sequence[int]
) -> None:
    """Images [n, *shape] with captions, six to a row; an empty tile captioned `empty_text` if there are none."""
    image_grid(
        images if len(images) else np.full((1, *shape), 230, np.uint8),
        path,
        columns=6,
        captions=captions if len(images) else [empty_text],
        title=title,
        tile=168,
        font_size=12,
    )


def draw_confusions(path: Path, images, labels, probabilities, classes: Sequence[str], pairs) -> None:
    """A row per pair (class, prediction) of indices, most frequent first, with its most confident images."""
    predicted, worst = probabilities.argmax(axis=1), worst_mistakes(probabilities, labels)
    rows, names, columns = [], [], 1
    for true, found in pairs[:SHOWN_PAIRS]:
        here = worst[(labels[worst] == true) & (predicted[worst] == found)]
        columns = max(columns, min(SHOWN_PER_PAIR, len(here)))
        row = np.full((columns, *images.shape[1:]), 255, np.uint8)  # the first pair is the most frequent one
        row[: len(here)] = images[here[:columns]]
        rows.append(row)
        names.append(f"{len(here)} x {classes[true]} > {classes[found]}")
    image_grid(
        np.concatenate(rows) if rows else np.full((1, *images.shape[1:]), 230, np.uint8),
        path,
        columns=columns,
        row_labels=names,
        captions=() if rows else ["no mistake"],
        title="most frequent confusions: class > prediction",
        tile=64,
    )


def draw_nearest(path: Path, mistakes: np.ndarray, nearest: np.ndarray, captions: Sequence[Sequence[str]]) -> None:
    """A row per mistake: the image [k, h, w, c] and the nearest train images [k, m, h, w, c], with a caption for each
    [k][1 + m]."""
    title = "most confident mistakes (class > prediction), and the train images that look most alike to the classifier"
    if not len(mistakes):
        draw_grid(path, mistakes, [], title=title, empty_text="no mistake", shape=nearest.shape[2:])
        return
    rows = np.concatenate([mistakes[:, None], nearest], axis=1)
    image_grid(
        rows.reshape(-1, *rows.shape[2:]),
        path,
        columns=rows.shape[1],
        captions=[text for row in captions for text in row],
        title=title,
        tile=144,
        font_size=12,
    )


def draw_risk_coverage(path: Path, coverage: np.ndarray, risk: np.ndarray, area: float, best: float) -> None:
    """Share of mistakes against the share of images answered; best: the area with mistakes least confident."""
    with panel_axes(1, path) as (axis,):
        axis.plot(coverage, risk, color=COLOURS[0], label="this classifier")
        axis.axhline(risk[-1], color="grey", linestyle=":", label="a confidence that says nothing")
        axis.set(xlim=(0, 1.02), xlabel="share of images answered", ylabel="share of mistakes among them")
        axis.set_ylim(-0.02 * max(risk.max(), 0.01), 1.1 * max(risk.max(), 0.01))
        axis.set_title(f"area {area:.2g} (at best {best:.2g})", fontsize=10)
        axis.legend(fontsize=8)


def draw_outliers(path: Path, scores: Mapping[str, np.ndarray], threshold: float, name: str) -> None:
    """Histograms of the outlier scores of each kind of images, and the threshold."""
    edges = np.histogram_bin_edges(np.concatenate(list(scores.values())), bins=50)
    with panel_axes(1, path) as (axis,):
        for colour, (kind, values) in zip(COLOURS, scores.items(), strict=False):
            shares = np.histogram(values, edges)[0] / len(values)
            axis.stairs(shares, edges, color=colour, fill=True, alpha=0.25)
            axis.stairs(shares, edges, color=colour, label=kind)
        axis.axvline(threshold, color="grey", linestyle=":", label="threshold")
        axis.set(xlabel=f"outlier score: {name}", ylabel="share of the images")
        axis.set_title("images of other kinds", fontsize=10)
        axis.legend(fontsize=8)


def draw_corruptions(path: Path, examples: Mapping[str, np.ndarray], accuracies: Mapping[str, float]) -> None:
    """An image per corruption, captioned with its name and, where known, the accuracy on all images."""
    image_grid(
        np.stack(list(examples.values())),
        path,
        columns=8,
        captions=[f"{name.replace('_', ' ')} {_percent(accuracies.get(name))}" for name in examples],
        title="accuracy on corrupted test images",
        tile=144,
        font_size=12,
    )


def draw_evidence(path: Path, images: np.ndarray, heat: np.ndarray, names: Sequence[str]) -> None:
    """Images [n, h, w, channels] above their heat maps [n, h, w, 3], ten to a row, captions below."""
    plain = np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images
    columns = min(10, len(images))
    tiles, captions, rows = [], [], []
    for start in range(0, len(images), columns):
        for label, kind in (("image", plain), ("evidence", heat)):
            row = np.full((columns, *plain.shape[1:]), 255, np.uint8)
            part = kind[start : start + columns]
            row[: len(part)] = part
            tiles.append(row)
            texts = list(names[start : start + columns]) if label == "image" else []
            captions += texts + [""] * (columns - len(texts))
            rows.append(label)
    title = "what speaks for the class: yellow much, blue nothing (Grad-CAM)"
    image_grid(
        np.concatenate(tiles), path, columns, captions=captions, row_labels=rows, title=title, tile=100, font_size=12
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
