"""Compares ingest with keras.utils.image_dataset_from_directory on the same folder of PNGs.

    python -m bench.ingest [FOLDER]    one subfolder of images per class, or train/ and test/ with such folders

Without a folder, data/raw/fashion_mnist.zip is unpacked into a temporary one. Each side runs in its own process, three
times in turn; the start of Python and imports do not count. Ingest reads, decodes, hashes, measures and splits the
images and writes shards and manifest; Keras lists, reads and decodes them, in batches of 256.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from stages.running.terminal import UserError, run_stage

REPEATS = 3
ARCHIVE = Path("data/raw/fashion_mnist.zip")


def time_ingest(folder: Path) -> tuple[int, float]:
    """The number of images, and the seconds from the folder to shards and manifest."""
    import pandas  # noqa: F401 - pyarrow imports it on its first conversion

    from stages.core.params import load_params
    from stages.ingest import IngestParams, ingest
    from stages.ingestion.sources import open_source

    params = load_params(IngestParams, "ingest").model_copy(update={"image_size": None, "limit_per_class": None})
    with tempfile.TemporaryDirectory() as output:
        start = time.perf_counter()
        with open_source(folder) as source:
            manifest = ingest(source, params, Path(output))
        return manifest.rows, time.perf_counter() - start


def time_keras(folder: Path) -> tuple[int, float]:
    """The number of images, and the seconds to list and decode them once."""
    import keras
    import tensorflow as tf
    from PIL import Image

    splits = [child for child in (folder / "train", folder / "test") if child.is_dir()] or [folder]
    example = next(splits[0].glob("*/*.png"))
    with Image.open(example) as image:
        size, colour = (image.height, image.width), "grayscale" if image.mode == "L" else "rgb"
    tf.constant(0)  # starts the runtime
    count = 0
    start = time.perf_counter()
    for split in splits:
        images = keras.utils.image_dataset_from_directory(
            split, image_size=size, color_mode=colour, batch_size=256, shuffle=False, verbose=False
        )
        count += sum(int(batch.shape[0]) for batch, _ in images)
    return count, time.perf_counter() - start


SIDES = {"ingest": time_ingest, "keras": time_keras}


def compare(folder: Path) -> None:
    """Prints images per second of each side and run, and the ratio of the medians."""
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    for repeat in range(REPEATS):
        for side in SIDES:
            command = [sys.executable, "-m", "bench.ingest", "--side", side, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UserError(f"{side} failed: {done.stderr.strip().splitlines()[-1:]}")
            count, seconds = json.loads(done.stdout.splitlines()[-1])
            rates[side].append(count / seconds)
            print(f"{side:8}run {repeat + 1}: {count:,} images in {seconds:5.2f} s, {count / seconds:7,.0f} images/s")
    medians = {side: statistics.median(values) for side, values in rates.items()}
    print(f"median: ingest {medians['ingest']:,.0f}, keras {medians['keras']:,.0f} images/s")
    print(f"ratio: {medians['ingest'] / medians['keras']:.2f}")


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--side"]:
        print(json.dumps(SIDES[arguments[1]](Path(arguments[2]))))
    elif arguments:
        compare(Path(arguments[0]))
    elif ARCHIVE.exists():
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(ARCHIVE) as archive:
            archive.extractall(folder)
            compare(Path(folder))
    else:
        raise UserError(f"{ARCHIVE} not found: name a folder of PNGs, `python -m bench.ingest FOLDER`")


if __name__ == "__main__":
    run_stage(main)
