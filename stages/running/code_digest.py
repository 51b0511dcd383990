"""Digests of code: over names and bytes, without the files that Python or a file browser adds.

Reads .dvcignore at the root of the checkout, as DVC does when it hashes a dependency: files that it excludes do not
change a digest.
"""

import hashlib
from pathlib import Path

from pathspec import GitIgnoreSpec


def code_files(path: Path, root: Path, pattern: str = "*") -> list[Path]:
    """The file `path`, or the files below the folder `path` whose names match `pattern`, sorted, except where the
    .dvcignore of the checkout at `root` excludes them. `path` starts with `root`."""
    ignore = root / ".dvcignore"
    excluded = GitIgnoreSpec.from_lines(ignore.read_text(encoding="utf-8").splitlines() if ignore.exists() else [])
    found = path.rglob(pattern) if path.is_dir() else [path]
    return sorted(
        file for file in found if file.is_file() and not excluded.match_file(file.relative_to(root).as_posix())
    )


def code_digest(path: Path, root: Path, pattern: str = "*") -> str:
    """sha256 over the names and bytes of `code_files`. Raises FileNotFoundError when there are none: a digest of
    nothing would never change."""
    files = code_files(path, root, pattern)
    if not files:
        raise FileNotFoundError(f"no code at {path}")
    total = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(root).as_posix()}\0{content}\n".encode())
    return total.hexdigest()
