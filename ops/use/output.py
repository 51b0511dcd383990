"""Atomic output files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stages.core.outputs import is_disk_full
from stages.running.terminal import UserError


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[str]]:
    """Yields a text file that replaces `path` when the block ends without an error, and is removed otherwise."""
    partial_path = path.with_name(f".{path.name}.partial")
    try:
        partial_path.parent.mkdir(parents=True, exist_ok=True)
        with partial_path.open("w", newline="", encoding="utf-8") as file:
            yield file
        partial_path.replace(path)
    except Exception as error:
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError) or is_disk_full(error):
            raise UserError(f"{path} cannot be written: {error}") from error
        raise
    finally:
        partial_path.unlink(missing_ok=True)
