"""Columns of numbers on disk, one number per file: those of a billion files would not fit into memory."""

import tempfile
import weakref
from collections.abc import Sequence

import numpy as np

from stages.core.outputs import is_disk_full
from stages.running.terminal import UserError


class Column:
    """Numbers of one type in a temporary file, appended at the end.

    `view` maps the file, which takes no memory from the process: the system reclaims its pages when it needs them.
    """

    def __init__(self, dtype: np.typing.DTypeLike):
        self.dtype = np.dtype(dtype)
        # It has no name, and disappears with this process.
        self._file = tempfile.TemporaryFile(prefix="visionloop-", buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def extend(self, values: np.ndarray | Sequence) -> None:
        """Raises UserError when the disk has no space for them."""
        part = np.ascontiguousarray(values, self.dtype)
        rest = part.view(np.uint8).data
        try:
            while len(rest):  # not `tofile`, which does not report a disk that becomes full at the end
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise UserError(
                f"{tempfile.gettempdir()} has no space for the list of images ({error}): free some, or set TMPDIR to a "
                "folder on another disk"
            ) from None
        self._length += len(part)

    def view(self) -> np.ndarray:
        """All numbers so far, [n], read-only."""
        if not self._length:
            return np.empty(0, self.dtype)
        return np.asarray(np.memmap(self._file, self.dtype, "r", shape=(self._length,)))
