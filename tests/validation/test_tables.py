"""stages.validation.tables: a data set as tables, good or damaged."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.running.terminal import UserError
from stages.validation.tables import NAMES, read_data_set
from tests.conftest import tiny_ingest


def test_images_are_counted_by_class_and_split(tmp_path):
    tables, _ = read_data_set(tiny_ingest(tmp_path, train=12, val=5, test=4), ("ball", "box", "cup", "lid"))
    columns = ["class", "status", "train_images", "val_images", "test_images"]
    assert tables["classes"][columns].to_numpy().tolist() == [
        ["ball", "as expected", 12, 5, 4],
        ["box", "as expected", 12, 5, 4],
        ["cup", "as expected", 12, 5, 4],
        ["lid", "missing", 0, 0, 0],
    ]
    assert tables["splits"].to_numpy().tolist() == [["train", 36, 36], ["val", 15, 15], ["test", 12, 12]]


def test_each_table_has_the_columns_that_name_its_rows(tmp_path):
    tables, _ = read_data_set(tiny_ingest(tmp_path))
    assert tables.keys() == NAMES.keys()
    assert all({*NAMES[table]} <= {*frame.columns} for table, frame in tables.items())


def test_a_manifest_of_other_columns_is_refused(tmp_path):
    folder = tiny_ingest(tmp_path)
    pq.write_table(pa.table({"id": [1], "path": ["x"]}), folder / "manifest.parquet")
    with pytest.raises(UserError, match="has the columns id, path; expected id, source, label"):
        read_data_set(folder)
