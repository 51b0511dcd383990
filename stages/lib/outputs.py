"""What stages write: folders that appear whole or not at all, metrics and tables that diff well."""

import csv
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yields an empty folder beside `path`; when the block ends without an error it takes the place of `path`.

    On an error the half-written folder is removed and whatever stood at `path` is left as it was.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed run
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_metrics(path: Path, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Writes nested plain numbers as JSON, six decimals each."""
    rounded = {group: {name: round(value, 6) for name, value in values.items()} for group, values in metrics.items()}
    path.write_text(json.dumps(rounded, indent=2) + "\n", encoding="utf-8")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows with the same keys as CSV with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
