"""Classifies images: `python -m ops predict photos more/*.png --out predictions.csv`

Reads  image files, and all image files in folders and their sub-folders
Writes a CSV file, a row for each image: path, predicted class, confidence, outlier_score, abstain, error, and p_CLASS,
       the calibrated probability of each class

`abstain` is true where the answer should not be used: the image is less alike to the training images than 19 of 20
validation images are (outlier_score above 0), the confidence is below --min-confidence, or the file cannot be decoded,
which `error` explains. A CSV file that is there already is replaced.

Exit code: 0 when all files were decoded, else 1; the CSV file holds all of them in both cases.
"""

import argparse
import csv
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ops.project.networks import CNN
from ops.use.models import Model, find_model, model_help
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

SMALL = 3000  # images: decoded before worker processes would have started
SHOWN = 3  # files that cannot be decoded, in the error


class Answer(NamedTuple):
    """What a classifier makes of n images."""

    probabilities: np.ndarray  # float64 [n, classes], calibrated
    outlier_scores: np.ndarray | None  # float64 [n], above 0 less alike than most validation images; None: not known


def find_images(names: Sequence[str]) -> tuple[dict[str, Payload], int]:
    """The image files among `names` and in the folders among them, by path in the order of `names`; and how many other
    files are in these folders. Raises UserError when there is nothing of that name, or no image in a folder."""
    found, others = dict[str, Payload](), 0
    for name in names:
        path = Path(name)
        if not path.is_dir():
            if not path.is_file():
                raise UserError(f"{readable(name)} not found: expected image files, or folders with such")
            found[readable(name)] = Extent(name)
            continue
        files = {inside: payload for inside, payload in walk(path)[0].by_name() if not IGNORED.search(inside)}
        images = sorted(inside for inside in files if Path(inside).suffix[1:].lower() in EXTENSIONS)
        if not images:
            raise UserError(f"{readable(name)} holds no images: expected PNG, JPEG, BMP, GIF, TIFF or WebP files")
        found |= {(Path(readable(name)) / inside).as_posix(): files[inside] for inside in images}
        others += len(files) - len(images)
    return found, others


def load_classifier(model: Model) -> Callable[[np.ndarray], Answer]:
    """A function from uint8 images [n, height, width, channels] to what the registered model answers for them.

    Raises UserError when the network is none of the model's classes.
    """
    from stages.evaluation.classifier.features import ClassifierSpace
    from stages.serving.classifier.bundle import Serving
    from stages.training.network_files import load_network

    network = load_network(model.network)
    if network.output_shape[-1] != len(model.classes):
        raise UserError(
            f"{model.description} tells {network.output_shape[-1]} classes apart, "
            f"and {len(model.classes)} are named for it"
        )
    if model.serving is None:
        return lambda images: Answer(softmax(network.predict(images, batch_size=512, verbose=0)), None)
    with np.load(model.serving, allow_pickle=False) as file:
        serving = Serving(float(file["temperature"]), float(file["threshold"]), int(file["neighbours"]), file["bank"])
    space = ClassifierSpace(model.network)

    def answer(images: np.ndarray) -> Answer:
        features, logits = space(images)
        return Answer(softmax(logits / serving.temperature), serving.scores(features, logits) - serving.threshold)

    return answer


def fitted(model: Model, fit: str | None) -> Target:
    """What images are brought to: size and channels are those of the network's input; `fit`, which no network knows, is
    by default that of params.yaml."""
    height, _, channels = model.input_shapes[0]
    if fit is None:
        fit = load_params(IngestParams, "ingest").fit if Path("params.yaml").exists() else "pad"
    return Target(height, channels, fit)


def header(classes: Sequence[str]) -> list[str]:
    """The columns of the CSV file."""
    return ["path", "predicted", "confidence", "outlier_score", "abstain", "error", *(f"p_{name}" for name in classes)]


def rows(
    paths: Sequence[str], reasons: Sequence[str | None], answer: Answer, classes: Sequence[str], min_confidence: float
) -> Iterator[list[str]]:
    """A row for each path; reasons: why a file cannot be decoded. `answer` is about the others, in their order."""
    position = 0
    for path, reason in zip(paths, reasons, strict=True):
        if reason is not None:
            yield [path, "", "", "", "true", readable(reason), *([""] * len(classes))]
            continue
        probabilities = answer.probabilities[position]
        score = None if answer.outlier_scores is None else answer.outlier_scores[position]
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


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ops predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", metavar="FILE_OR_FOLDER", help="images, or folders of images")
    parser.add_argument("--model", help=model_help(CNN))
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"), help="default: %(default)s")
    parser.add_argument(
        "--min-confidence", type=float, default=0.0, metavar="P", help="abstain below it, 0 to 1; default: 0, off"
    )
    parser.add_argument(
        "--fit", choices=["pad", "crop"], help="how images become square; default: ingest.fit of params.yaml"
    )
    parser.add_argument(
        "--batch-size", type=int, default=256, metavar="N", help="images decoded at a time; default: %(default)s"
    )
    given = parser.parse_args()
    for option, value, low, high in (
        ("--min-confidence", given.min_confidence, 0, 1),
        ("--batch-size", given.batch_size, 1, 65_536),
    ):
        if not low <= value <= high:
            parser.error(f"{option} {value}: expected {low} to {high}")
    if given.out.is_dir():
        raise UserError(f"--out {given.out} is a folder: expected the name of a CSV file")
    found, others = find_images(given.images)
    with find_model(CNN, given.model) as model, atomic_file(given.out) as file:
        target = fitted(model, given.fit)
        terminal.say(
            f"classifier: {model.description}",
            f"images as {target.size}x{target.size} px, {'grey' if target.channels == 1 else 'colour'}, {target.fit}"
            + ("" if model.serving else "; without serving.npz, so neither calibrated nor with outlier scores"),
        )
        abstained, bad = classify(found, model, target, file, given.batch_size, given.min_confidence)
    terminal.say(
        f"{len(found):,} images in {given.out}, {abstained:,} to abstain from"
        + (f"; {others:,} other files left out" if others else "")
    )
    if bad:
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise UserError(
            f"{len(bad)} of {len(found)} images cannot be decoded, the rest is in {given.out}: "
            f"{'; '.join(bad[:SHOWN])}{more}"
        )


def classify(
    found: dict[str, Payload], model: Model, target: Target, file: IO[str], batch_size: int, min_confidence: float
) -> tuple[int, list[str]]:
    """Writes the rows; returns how many of them say abstain, and which images cannot be decoded. At most `batch_size`
    images are in memory, and of thousands, which are decoded in other processes, a few times as many."""
    answer = load_classifier(model)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header(model.classes))
    paths, payloads = list(found), list(found.values())
    starts = range(0, len(paths), batch_size)
    chunks = (payloads[start : start + batch_size] for start in starts)
    workers = available_cores() if len(paths) > SMALL else 1
    abstained, bad = 0, list[str]()
    decoded = ordered_map(partial(decode_chunk, target=target), chunks, workers)
    with closing(decoded), Progress("classify", len(paths), "images") as bar:
        for start, (images, facts) in zip(starts, decoded, strict=True):
            here = paths[start : start + batch_size]
            answered = answer(images) if len(images) else Answer(np.empty((0, len(model.classes))), None)
            for row in rows(here, facts.reason, answered, model.classes, min_confidence):
                writer.writerow(row)
                abstained += row[4] == "true"
            bad += [f"{path}: {reason}" for path, reason in zip(here, facts.reason, strict=True) if reason is not None]
            bar.advance(len(here))
    return abstained, bad


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is half-written is removed
    terminal.run_stage(main)
