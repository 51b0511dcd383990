"""Finds each stage's code dependencies in its source: `visionloop dependencies` prints them as dvc.yaml should list
them.

DVC does not look into Python files, so dvc.yaml lists, stage by stage, the script and everything that it imports from
this repository: a folder where the stage uses all of it, otherwise files. tests/test_dvc_yaml.py compares the two.
"""

import argparse
import ast
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

# Changes no output (a test runs the stages with it replaced), so an edit of it re-runs nothing.
OUTPUT_NEUTRAL = "stages/running"

# Import name -> distribution, for the packages whose version can change a byte of the outputs.
SHAPING = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "great_expectations": "great-expectations",
    "keras": "keras",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "tensorflow": "tensorflow",
}
# These read, check or report: their results do not depend on their version.
NOT_SHAPING = {"dask", "distributed", "mlflow", "pooch", "psutil", "pydantic", "requests", "tqdm", "yaml"}
LAZY = "stages/training/tensorflow.py"  # imports keras and tensorflow at their first use


@dataclass
class Needs:
    """Files of this repository, distributions, and sections of params.yaml that a stage uses."""

    files: set[str] = field(default_factory=set)
    packages: set[str] = field(default_factory=set)
    sections: set[str] = field(default_factory=set)


def stage_needs(stage: str, root: Path = Path()) -> Needs:
    """All that `python -m stages.STAGE` imports, directly or not, the code that it registers, and the sections that it
    loads.

    Raises ValueError for a package that is in neither SHAPING nor NOT_SHAPING.
    """
    needs, pending = Needs(), [f"stages/{stage}.py"]
    while pending:
        file = pending.pop()
        if file in needs.files or file.startswith(f"{OUTPUT_NEUTRAL}/"):
            continue
        needs.files.add(file)
        for node in ast.walk(ast.parse((root / file).read_text(encoding="utf-8"))):
            for module in imported_modules(node):
                path = f"{module.replace('.', '/')}.py"
                if (root / path).exists():
                    pending.append(path)
                top = module.split(".")[0]
                if top in SHAPING:
                    needs.packages.add(SHAPING[top])
                elif top not in NOT_SHAPING | sys.stdlib_module_names | {"stages"}:
                    raise ValueError(
                        f"{file} imports {top}: add it to SHAPING or NOT_SHAPING in ops/dev/dependencies.py"
                    )
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load_params":
                needs.sections.add(ast.literal_eval(node.args[1]))
            elif isinstance(node, ast.Constant) and str(node.value).startswith("stages/serving/"):
                pending.append(str(node.value))
    if LAZY in needs.files:
        needs.packages |= {"keras", "tensorflow"}
    return needs


def shortest(files: Iterable[str], root: Path = Path()) -> list[str]:
    """The files as dvc.yaml should list them: the script first, and a folder below stages/ in place of its modules when
    all of them are included."""
    wanted = set(files)
    found = set(wanted)
    for folder in sorted((path for path in (root / "stages").rglob("*") if path.is_dir()), key=lambda path: path.parts):
        modules = modules_below(folder, root)
        if modules and modules <= wanted:
            found -= modules
            found.add(folder.relative_to(root).as_posix())
    nested = {path for path in found if any(path.startswith(f"{other}/") for other in found)}
    return sorted(found - nested, key=lambda path: (path.count("/"), path.endswith(".py") is False, path))


def modules_below(folder: Path, root: Path = Path()) -> set[str]:
    """The modules in a folder and its subfolders, without `__init__.py`, which is always empty."""
    files = {path for path in folder.rglob("*.py") if path.name != "__init__.py"}
    return {path.relative_to(root).as_posix() for path in files}


def imported_modules(node: ast.AST) -> list[str]:
    """The full names of the modules that a statement imports or a call to `find_spec` looks up."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "find_spec":  # to read a file of that package
        return [ast.literal_eval(node.args[0])]
    return []


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="visionloop dependencies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="default: all stages of dvc.yaml")
    stages = parser.parse_args().stages
    document = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
    for stage in stages or document["stages"]:
        needs = stage_needs(stage)
        print(f"  {stage}:\n    deps:")
        for path in shortest(needs.files):
            print(f"      - {path}")
        print(f"    params:\n      - {', '.join(sorted(needs.sections))}")
        print(f"      - versions.yaml: [{', '.join(sorted(needs.packages))}]")


if __name__ == "__main__":
    main()
