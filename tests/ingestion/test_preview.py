"""The preview picture of a data set."""

import numpy as np
from PIL import Image

from stages.core.dataset import open_shards
from stages.ingestion.preview import write_preview
from tests.conftest import tiny_ingest


def test_a_row_shows_its_class_across_shards(tmp_path):
    classes = ("ball", "box", "cup")
    folder = tiny_ingest(tmp_path, classes=classes, train=5, size=200, shard_mib=0.1)
    assert len(open_shards(folder, "train")) > 3
    write_preview(folder, classes)
    with Image.open(folder / "preview.png") as picture:
        pixels = np.asarray(picture.convert("L")).astype(float)
    width = pixels.shape[1]
    assert pixels.shape[0] == 4 + 3 * 60
    for row in range(3):
        # The stripe of class k starts at k thirds of the width.
        tile = pixels[4 + row * 60 : 4 + row * 60 + 56, width - 60 : width - 4]
        assert abs(tile.mean(axis=0).argmax() - row * 56 / 3) <= 1
