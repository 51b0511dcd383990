"""What each stage's code depends on, read from its source: `python -m ops.imports` prints it as dvc.yaml should say it.

DVC does not look into Python files, so dvc.yaml lists, stage by stage, the script and everything it imports from this
repository. tests/test_dvc_yaml.py compares the two.
"""

import ast
import sys
from dataclasses import dataclass, field
from pathlib import Path

# These change no output (a test runs the stages without them), so changing them re-runs nothing.
OUTPUT_NEUTRAL = {"stages/lib/terminal.py", "stages/lib/tracking.py"}

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
# These read, check or report: what they hand on does not depend on their version.
NOT_SHAPING = {"dask", "distributed", "pooch", "psutil", "pydantic", "requests", "tqdm", "yaml"}


@dataclass
class Needs:
    """files of this repository, distributions, and sections of params.yaml that a stage uses."""

    files: set[str] = field(default_factory=set)
    packages: set[str] = field(default_factory=set)
    sections: set[str] = field(default_factory=set)


def stage_needs(stage: str, root: Path = Path()) -> Needs:
    """What `python -m stages.STAGE` imports, directly or not, and which sections it loads."""
    needs, todo = Needs(), [f"stages/{stage}.py"]
    while todo:
        file = todo.pop()
        if file in needs.files or file in OUTPUT_NEUTRAL:
            continue
        needs.files.add(file)
        for node in ast.walk(ast.parse((root / file).read_text(encoding="utf-8"))):
            for module in _imported(node):
                path = f"{module.replace('.', '/')}.py"
                if (root / path).exists():
                    todo.append(path)
                top = module.split(".")[0]
                if top in SHAPING:
                    needs.packages.add(SHAPING[top])
                elif top not in NOT_SHAPING | sys.stdlib_module_names | {"stages", "__future__"}:
                    raise ValueError(f"{file} imports {top}: add it to SHAPING or NOT_SHAPING in ops/imports.py")
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load_params":
                needs.sections.add(ast.literal_eval(node.args[1]))
            elif isinstance(node, ast.Constant) and str(node.value).startswith("stages/lib/serve_"):
                needs.files.add(str(node.value))
    if "stages/lib/runtime.py" in needs.files:  # it imports these two at their first use
        needs.packages |= {"keras", "tensorflow"}
    return needs


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "find_spec":  # a file of a package is read
        return [ast.literal_eval(node.args[0])]
    return []


if __name__ == "__main__":
    for stage in sys.argv[1:] or ["ingest", "validate", "augment", "reference", "train_cnn", "train_gan", "evaluate"]:
        found = stage_needs(stage)
        print(f"  {stage}:\n    deps:")
        for file in sorted(found.files, key=lambda f: (f.count("/"), f)):
            print(f"      - {file}")
        print(f"    params:\n      - {', '.join(sorted(found.sections))}")
        print(f"      - versions.yaml: [{', '.join(sorted(found.packages))}]")
