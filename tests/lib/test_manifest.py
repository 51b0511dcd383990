"""stages.lib.manifest: reading the rows of a split."""

from stages.lib.dataset import read_labels
from stages.lib.manifest import read_origins
from tests.conftest import tiny_ingest


def test_origins_stand_beside_the_labels(tmp_path):
    folder = tiny_ingest(tmp_path, classes=("ball", "box"))
    for split in ("train", "val", "test"):
        origins = read_origins(folder, split)
        assert [name.split("/")[:2] for name in origins] == [
            [split, ("ball", "box")[label]] for label in read_labels(folder, split)
        ]
