"""The command `visionloop`: runs ops/ of the project in the working folder.

It is installed once for each environment, and one environment may serve several checkouts: a git worktree, or the copy
in which `dvc exp run --temp` works. So this module lies in a folder of its own, imports nothing of the project before
it knows which one is meant, and puts that one first. `python -m ops` does the same without installation.
"""

import runpy
import sys
from pathlib import Path


def find_project(folder: Path) -> Path | None:
    """The nearest folder from `folder` up that holds dvc.yaml and ops/; None outside of a project."""
    for each in (folder, *folder.parents):
        if (each / "dvc.yaml").is_file() and (each / "ops" / "__main__.py").is_file():
            return each
    return None


def main() -> None:
    """Raises SystemExit with one sentence outside the root of a project."""
    here = Path.cwd()
    project = find_project(here)
    if project is None:
        sys.exit(f"error: {here} is not in a visionloop project: change to the folder that holds dvc.yaml and ops/")
    if project != here:
        sys.exit(f"error: {here} is not the root of the project: run `cd {project}` first, as paths are relative to it")
    sys.path.insert(0, str(project))
    runpy.run_module("ops", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
