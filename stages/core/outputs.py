"""Writes the outputs of stages: folders that appear whole or not at all, and metrics and tables that diff well."""

import csv
import errno
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.running.terminal import UserError

# Names from data end up in web pages. DVC's plots and the Data Docs escape some texts and not others, and substitute
# names after a dollar sign. Look-alikes are safe.
LOOK_ALIKES = str.maketrans({"<": "\u2039", ">": "\u203a", "&": "\uff06", '"': "\u201d", "'": "\u2019", "$": "\uff04"})
# How numpy and HDF5 report a full disk or quota, in errors without an errno.
DISK_FULL = re.compile(r"\d+ requested and \d+ written|errno = (28|122)\b|No space left on device|Disk quota exceeded")


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yields an empty folder next to `path`, which replaces `path` when the block ends without an error.

    On an error the half-written folder is removed and `path` is left as it was. Raises UserError when the disk is full.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    replaced = path.with_name(f".{path.name}.replaced.partial")
    _recover(path, partial, replaced)  # after a killed run
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            path.rename(replaced)  # a kill while it is deleted in place would leave half of it
        partial.rename(path)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException as error:
        _recover(path, partial, replaced)
        if is_disk_full(error):
            free = shutil.disk_usage(path.parent).free / 2**20
            raise UserError(
                f"no space left to write {path} ({free:,.1f} MiB are free without it): free some and run it again; "
                "the outputs of earlier runs are unchanged"
            ) from error
        raise


def _recover(path: Path, partial: Path, replaced: Path) -> None:
    """Moves `replaced` back to `path` when nothing took its place, and removes both leftovers."""
    if replaced.exists() and not path.exists():
        replaced.rename(path)
    for leftover in (partial, replaced):
        shutil.rmtree(leftover, ignore_errors=True)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether this error, or one that led to it, reports a full disk or an exhausted quota."""
    while error and not isinstance(error, UserError):
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, Exception) and DISK_FULL.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_metrics(path: Path, metrics: Mapping[str, Mapping[str, float]]) -> None:
    """Writes nested plain numbers as JSON, six decimals each."""
    rounded = {group: {name: round(value, 6) for name, value in values.items()} for group, values in metrics.items()}
    path.write_text(json.dumps(rounded, indent=2) + "\n", encoding="utf-8")


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Writes rows with the same keys as CSV with a header. DVC puts the table into the script of a web page: a `<`,
    which could end that script, is replaced by a look-alike.

    columns: the keys, required for an iterator of rows and for a table that may be empty.
    """
    if columns is None:
        rows = list(rows)
        columns = list(rows[0])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(_cell, columns))
        writer.writerows([_cell(row[column]) for column in columns] for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    return value.replace("<", "<".translate(LOOK_ALIKES)) if isinstance(value, str) else value
