"""Where what outlives a run is kept: the root of the main checkout."""

import os
from pathlib import Path


def main_checkout() -> Path:
    """The root of the project; for a DVC experiment in a throw-away copy, the root of the one it was copied from."""
    here = Path.cwd()
    # `dvc exp run` sets DVC_ROOT to the parent also for throw-away copies, and plain `dvc repro` keeps an inherited
    # one: it says something about this folder only when this folder is such a copy.
    parent = os.environ.get("DVC_ROOT")
    if parent and here.is_relative_to(Path(parent).resolve() / ".dvc" / "tmp"):
        return Path(parent).resolve()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
