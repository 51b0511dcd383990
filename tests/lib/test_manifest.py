"""stages.lib.manifest: reading the rows of a split."""

import numpy as np

from stages.lib.dataset import read_labels
from stages.lib.manifest import read_origins
from tests.conftest import tiny_ingest


def test_origins_stand_beside_the_labels(tmp_path):
    folder = tiny_ingest(tmp_path, classes=("ball", "box"))
    for split in ("train", "val", "test"):
        labels = read_labels(folder, split)
        chosen = np.arange(len(labels))[::-2]
        assert [name.split("/")[:2] for name in read_origins(folder, split, chosen)] == [
            [split, ("ball", "box")[label]] for label in labels[chosen]
        ]
        assert read_origins(folder, split, chosen[:0]) == []
