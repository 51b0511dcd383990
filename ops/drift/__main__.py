"""Checks whether data has drifted from the champion's training data: `visionloop drift [DATA]`

Compares images with the profile that is stored with the champion of visionloop-cnn (ops/drift/profile.py), so the old
images themselves are not needed:

    class prior        population stability index and chi-square test; new and vanished classes by name
    image statistics   brightness, contrast, sharpness, ...: the same index, with equal class shares
    distance           to the old images of the same class in the champion's reference space; permutation test
    unusual images     share of images far from all old images of their class; the farthest are shown

for all images and, when some of them are new and others already known by their pixels, for the new ones separately, so
that a hundred unusual images among thousands do not go unnoticed. Thresholds are in drift.yaml. Each comparison becomes
a run in MLflow, with its report.

Exit code: 0 no drift, 3 drift, 1 error.
"""

import argparse
import sys
from pathlib import Path

from stages.running import terminal

DRIFT = 3  # exit code


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="visionloop drift", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", nargs="?", type=Path, help="folder, archive or card of images in class folders; default: data/ingest"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write the report to FILE, as one page")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables to FILE, for an issue")
    arguments = parser.parse_args()
    from ops.drift.comparison import check_drift

    if check_drift(arguments.data, arguments.html, arguments.markdown):
        sys.exit(DRIFT)


if __name__ == "__main__":
    terminal.run_stage(main)
