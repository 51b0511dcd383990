"""The manifest of a data set: one row per file (see stages.core.dataset), written in parts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.core.dataset import SCHEMA

ROWS = 2**17  # written at a time
EXAMPLES = 5  # of files that cannot be decoded


class ManifestWriter:
    """Writes manifest.parquet and counts its rows; at most ROWS of them are in memory.

    accepted: images by (class, split). left_out: files by class, None for files without a class. reasons: files by the
    kind of reason. undecodable: files; `examples` are the first of them, with their reasons.
    """

    def __init__(self, folder: Path):
        self._file = pq.ParquetWriter(folder / "manifest.parquet", SCHEMA)
        self._pending: list[pa.Table] = []
        self.rows = self.undecodable = 0
        self.accepted, self.left_out, self.reasons = Counter[tuple](), Counter[str | None](), Counter[str]()
        self.examples: list[str] = []

    def append(self, columns: Mapping[str, Sequence]) -> None:
        """Adds rows; `columns` are all but `id`, and may leave out columns of nulls."""
        count = len(columns["source"])
        given = {"id": np.arange(self.rows, self.rows + count), **columns}
        rows = pa.table({field.name: given.get(field.name, pa.nulls(count, field.type)) for field in SCHEMA}, SCHEMA)
        self.rows += count
        self._count(rows)
        self._pending.append(rows)
        if sum(map(len, self._pending)) >= ROWS:
            self._write()

    def leave_out(self, files: Sequence[tuple[str, str]]) -> None:
        """Adds files without a class: the path and reason of each."""
        self.append({"source": [path for path, _ in files], "reason": [reason for _, reason in files]})

    def _count(self, rows: pa.Table) -> None:
        accepted = rows.filter(pc.is_null(rows["reason"])).select(["class", "split"])
        for group in accepted.group_by(["class", "split"]).aggregate([([], "count_all")]).to_pylist():
            self.accepted[group["class"], group["split"]] += group["count_all"]
        for row in rows.filter(pc.is_valid(rows["reason"])).select(["source", "class", "sha256", "reason"]).to_pylist():
            reason = row["reason"]
            self.left_out[row["class"]] += 1
            self.reasons[kind_of(reason)] += 1
            if row["class"] is not None and row["sha256"] is None:
                self.undecodable += 1
                if len(self.examples) < EXAMPLES:
                    self.examples.append(f"{row['source']}: {reason}")

    def _write(self) -> None:
        if self._pending:
            self._file.write_table(pa.concat_tables(self._pending))
            self._pending = []

    def close(self) -> None:
        """Writes the pending rows and closes the file."""
        self._write()
        self._file.close()


def kind_of(reason: str) -> str:
    """The reason without details that differ from file to file."""
    return "duplicates" if reason.startswith("duplicate of") else reason.split(":")[0]
