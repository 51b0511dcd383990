"""Classifies images: `visionloop predict photos more/*.png --out predictions.csv`

Reads  image files, and all image files in folders and their subfolders
Writes a CSV file with a row for each image: path, predicted (class), confidence, outlier_score, abstain, error, and
       p_CLASS, the calibrated probability of each class. It replaces an existing file

`abstain` is true where the prediction should not be used: the image is less similar to the training images than 19 of
20 validation images (outlier_score above 0), the confidence is below --min-confidence, or the file cannot be decoded,
which `error` explains.

Exit code: 0 when all files were decoded, else 1; the CSV file lists all of them in both cases.
"""

import argparse
import signal
from pathlib import Path

from ops.project.networks import CNN
from ops.use.options import model_help
from stages.running import terminal
from stages.running.terminal import UserError


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="visionloop predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", metavar="FILE_OR_FOLDER", help="images, or folders of images")
    parser.add_argument("--model", help=model_help(CNN))
    parser.add_argument("--out", type=Path, default=Path("predictions.csv"), help="default: %(default)s")
    parser.add_argument(
        "--min-confidence", type=float, default=0.0, metavar="P", help="abstain below this, 0 to 1; default: 0, off"
    )
    parser.add_argument(
        "--fit", choices=["pad", "crop"], help="pad or crop images to a square; default: ingest.fit of params.yaml"
    )
    parser.add_argument(
        "--batch-size", type=int, default=256, metavar="N", help="images decoded at a time; default: %(default)s"
    )
    options = parser.parse_args()
    for option, value, low, high in (
        ("--min-confidence", options.min_confidence, 0, 1),
        ("--batch-size", options.batch_size, 1, 65_536),
    ):
        if not low <= value <= high:
            parser.error(f"{option} {value}: expected {low} to {high}")
    if options.out.is_dir():
        raise UserError(f"--out {options.out} is a folder: expected the name of a CSV file")
    from ops.use.classification import classify_files

    classify_files(
        options.images,
        options.out,
        address=options.model,
        fit=options.fit,
        batch_size=options.batch_size,
        min_confidence=options.min_confidence,
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that partial output is removed
    terminal.run_stage(main)
