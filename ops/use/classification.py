"""Classification of image files: finds and decodes them, and writes the predictions of a classifier as CSV."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ops.project.networks import CNN
from ops.use.models import Model, find_model
from ops.use.output import atomic_file
from stages.core.params import load_params
from stages.imaging.decode import EXTENSIONS, Extent, Payload, decode_chunk
from stages.imaging.resize import Target
from stages.ingest import IngestParams
from stages.ingestion.class_folders import IGNORED
from stages.ingestion.names import readable
from stages.ingestion.sources import walk
from stages.running import terminal
from stages.running.parallel import available_cores, ordered_map
from stages.running.terminal import Progress, UserError
from stages.training.scores import softmax

MIN_PARALLEL = 3000  # images; fewer are decoded before worker processes would have started
SHOWN = 3  # undecodable files in the error message


class Predictions(NamedTuple):
    """A classifier's output for n images."""

    probabilities: np.ndarray  # float64 [n, classes], calibrated
    outlier_scores: np.ndarray | None  # float64 [n], above 0 less similar than most validation images; None: unknown


def find_images(names: Sequence[str]) -> tuple[dict[str, Payload], int]:
    """The image files among `names` and in the folders among them, by path in the order of `names`; and the number of
    other files in these folders. Raises UserError for a missing file and for a folder without images."""
    found, others = dict[str, Payload](), 0
    for name in names:
        path = Path(name)
        if not path.is_dir():
            if not path.is_file():
                raise UserError(f"{readable(name)} not found: expected image files, or folders of images")
            found[readable(name)] = Extent(name)
            continue
        files = {inside: payload for inside, payload in walk(path)[0].by_name() if not IGNORED.search(inside)}
        images = sorted(inside for inside in files if Path(inside).suffix[1:].lower() in EXTENSIONS)
        if not images:
            raise UserError(f"{readable(name)} holds no images: expected PNG, JPEG, BMP, GIF, TIFF or WebP files")
        found |= {(Path(readable(name)) / inside).as_posix(): files[inside] for inside in images}
        others += len(files) - len(images)
    return found, others


def load_classifier(model: Model) -> Callable[[np.ndarray], Predictions]:
    """A function from uint8 images [n, height, width, channels] to the registered model's predictions.

    Raises UserError when the network has another number of classes than the model.
    """
    from stages.evaluation.classifier.features import ClassifierSpace
    from stages.serving.classifier.bundle import Serving
    from stages.training.network_files import load_network

    network = load_network(model.network)
    if network.output_shape[-1] != len(model.classes):
        raise UserError(
            f"{model.description} distinguishes {network.output_shape[-1]} classes, "
            f"but its classes.json names {len(model.classes)}"
        )
    if model.serving is None:
        return lambda images: Predictions(softmax(network.predict(images, batch_size=512, verbose=0)), None)
    with np.load(model.serving, allow_pickle=False) as file:
        serving = Serving(float(file["temperature"]), float(file["threshold"]), int(file["neighbours"]), file["bank"])
    space = ClassifierSpace(model.network)

    def predict(images: np.ndarray) -> Predictions:
        features, logits = space(images)
        outlier_scores = serving.scores(features, logits) - serving.threshold
        return Predictions(softmax(logits / serving.temperature), outlier_scores)

    return predict


def image_target(model: Model, fit: str | None) -> Target:
    """The format to convert images to: the size and channels of the network's input, and `fit`, which is not stored
    with a network, by default from params.yaml."""
    height, _, channels = model.input_shapes[0]
    if fit is None:
        fit = load_params(IngestParams, "ingest").fit if Path("params.yaml").exists() else "pad"
    return Target(height, channels, fit)


def header(classes: Sequence[str]) -> list[str]:
    """The columns of the CSV file."""
    return ["path", "predicted", "confidence", "outlier_score", "abstain", "error", *(f"p_{name}" for name in classes)]


def rows(
    paths: Sequence[str],
    reasons: Sequence[str | None],
    predictions: Predictions,
    classes: Sequence[str],
    min_confidence: float,
) -> Iterator[list[str]]:
    """A row for each path. reasons: why a file cannot be decoded; `predictions` contains only the other files."""
    position = 0
    for path, reason in zip(paths, reasons, strict=True):
        if reason is not None:
            yield [path, "", "", "", "true", readable(reason), *([""] * len(classes))]
            continue
        probabilities = predictions.probabilities[position]
        score = None if predictions.outlier_scores is None else predictions.outlier_scores[position]
        position += 1
        confidence = probabilities.max()
        abstain = confidence < min_confidence or (score is not None and score > 0)
        yield [
            path,
            classes[probabilities.argmax()],
            f"{confidence:.6f}",
            "" if score is None else f"{score:.6f}",
            str(bool(abstain)).lower(),
            "",
            *(f"{probability:.6f}" for probability in probabilities),
        ]


def classify_files(
    names: Sequence[str], out: Path, *, address: str | None, fit: str | None, batch_size: int, min_confidence: float
) -> None:
    """Classifies image files and the images in folders, with the model at `address` (see `find_model`), and writes the
    CSV file `out`. Raises UserError when images cannot be decoded, after all others are written."""
    found, others = find_images(names)
    with find_model(CNN, address) as model, atomic_file(out) as file:
        target = image_target(model, fit)
        terminal.say(
            f"classifier: {model.description}",
            f"images as {target.size}x{target.size} px, {'grey' if target.channels == 1 else 'colour'}, {target.fit}"
            + ("" if model.serving else "; no serving.npz, so without calibration and outlier scores"),
        )
        abstained, undecodable = classify(found, model, target, file, batch_size, min_confidence)
    terminal.say(
        f"{len(found):,} images in {out}, {abstained:,} abstained"
        + (f"; {others:,} other files ignored" if others else "")
    )
    if undecodable:
        more = f"; and {len(undecodable) - SHOWN} more" if len(undecodable) > SHOWN else ""
        raise UserError(
            f"{len(undecodable)} of {len(found)} images cannot be decoded, the others are in {out}: "
            f"{'; '.join(undecodable[:SHOWN])}{more}"
        )


def classify(
    found: dict[str, Payload], model: Model, target: Target, file: IO[str], batch_size: int, min_confidence: float
) -> tuple[int, list[str]]:
    """Writes the rows; returns the number of abstentions, and the undecodable images with reasons. Holds `batch_size`
    images in memory, or a few times as many when worker processes decode thousands of them."""
    predict = load_classifier(model)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header(model.classes))
    paths, payloads = list(found), list(found.values())
    starts = range(0, len(paths), batch_size)
    chunks = (payloads[start : start + batch_size] for start in starts)
    workers = available_cores() if len(paths) > MIN_PARALLEL else 1
    abstained, undecodable = 0, list[str]()
    decoded = ordered_map(partial(decode_chunk, target=target), chunks, workers)
    with closing(decoded), Progress("classify", len(paths), "images") as bar:
        for start, (images, facts) in zip(starts, decoded, strict=True):
            batch = paths[start : start + batch_size]
            predictions = predict(images) if len(images) else Predictions(np.empty((0, len(model.classes))), None)
            for row in rows(batch, facts.reason, predictions, model.classes, min_confidence):
                writer.writerow(row)
                abstained += row[4] == "true"
            undecodable += [
                f"{path}: {reason}" for path, reason in zip(batch, facts.reason, strict=True) if reason is not None
            ]
            bar.advance(len(batch))
    return abstained, undecodable
