"""Finds the root of the main checkout, where everything that outlives a run is kept."""

import os
from pathlib import Path


def main_checkout() -> Path:
    """The root of the project; for a DVC experiment in a temporary copy, the root of the original."""
    here = Path.cwd()
    # `dvc exp run` sets DVC_ROOT to the original for temporary copies, too, and plain `dvc repro` keeps an inherited
    # value: it only counts when this folder is such a copy.
    parent = os.environ.get("DVC_ROOT")
    if parent and here.is_relative_to(Path(parent).resolve() / ".dvc" / "tmp"):
        return Path(parent).resolve()
    return next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
