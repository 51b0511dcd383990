"""stages.ingestion.manifest: rows are counted and written in pieces."""

import pyarrow.parquet as pq

from stages.core.dataset import SCHEMA
from stages.ingestion import manifest
from stages.ingestion.manifest import ManifestWriter


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
