"""Assigns train, val and test by content: by an image's own pixels only, so that adding images moves no other image."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

ORDER = {"test": 0, "val": 1}  # before train: of two equal images the one in the test set stays


class Splitter(NamedTuple):
    """Assigns images to splits. The official splits of a data set are kept, and only the others are carved out of its
    train images."""

    official_splits: Collection[str]
    test_fraction: float
    val_fraction: float

    def assign(self, official: str | None, sha256: bytes) -> str:
        """train, val or test for an image with this hash and official split."""
        if official in ("test", "val"):
            return official
        u = int.from_bytes(sha256[:8], "big") / 2**64
        if u < self.test_fraction:
            return "train" if "test" in self.official_splits else "test"
        return "val" if u < self.test_fraction + self.val_fraction and "val" not in self.official_splits else "train"

    def assign_all(self, official: Sequence[str | None], sha256: Sequence[bytes | None]) -> list[str | None]:
        """The split of each image; an undecodable one, which has no hash, keeps its official split."""
        pairs = zip(official, sha256, strict=True)
        return [split if digest is None else self.assign(split, digest) for split, digest in pairs]
