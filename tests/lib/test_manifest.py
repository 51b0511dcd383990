"""stages.lib.manifest: rows are counted and written in pieces, and read by split."""

import numpy as np
import pyarrow.parquet as pq

from stages.lib import manifest
from stages.lib.dataset import SCHEMA, read_labels
from stages.lib.manifest import ManifestWriter, read_origins
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


def test_origins_are_found_across_the_pieces_that_are_read(tmp_path, monkeypatch):
    folder = tiny_ingest(tmp_path, classes=("ball", "box"))
    count = len(read_labels(folder, "train"))
    chosen = np.random.default_rng(0).permutation(count)
    at_once = read_origins(folder, "train", chosen)
    monkeypatch.setattr(manifest, "ROWS_AT_A_TIME", 3)
    assert read_origins(folder, "train", chosen) == at_once
    assert len({*at_once}) == count > 3


def test_rows_are_numbered_counted_and_written_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "ROWS", 4)
    writer = ManifestWriter(tmp_path)
    for number in range(5):
        writer.append(
            {
                "source": [f"{number}a", f"{number}b"],
                "label": [0, 1],
                "class": ["ball", "box"],
                "split": ["train", "val" if number else None],
                "sha256": ["0" * 64, "1" * 64 if number else None],
                "reason": [f"duplicate of {number}" if number == 4 else None, None if number else "damaged: so"],
            }
        )
    writer.append({"source": ["notes.txt"], "reason": ["not an image file (.txt)"]})
    writer.close()
    assert writer.accepted == {("ball", "train"): 4, ("box", "val"): 4}
    assert writer.left_out == {"ball": 1, "box": 1, None: 1}
    assert writer.reasons == {"duplicates": 1, "damaged": 1, "not an image file (.txt)": 1}
    assert (writer.rows, writer.undecodable, writer.examples) == (11, 1, ["0b: damaged: so"])
    file = pq.ParquetFile(tmp_path / "manifest.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [4, 4, 3]
    table = file.read()
    assert table.schema.equals(SCHEMA)
    assert table["id"].to_pylist() == list(range(11))
    assert table["source"].to_pylist()[-3:] == ["4a", "4b", "notes.txt"]
    assert table["width"].null_count == 11
