"""What a stage needs is read from its source."""

from pathlib import Path

import pytest

from ops.imports import stage_needs


def write(root: Path, **modules: str) -> None:
    """Writes stages/NAME.py, or stages/lib/NAME.py for lib_NAME, and empty packages."""
    (root / "stages/lib").mkdir(parents=True)
    for name, source in modules.items():
        folder = root / "stages/lib" if name.startswith("lib_") else root / "stages"
        (folder / f"{name.removeprefix('lib_')}.py").write_text(source)


def test_imports_are_followed_through_every_form(tmp_path: Path) -> None:
    write(
        tmp_path,
        paint="import stages.lib.brush\nfrom stages.lib import canvas, terminal\nfrom stages.lib.params import Params",
        lib_brush="def stroke():\n    from stages.lib.bristle import hair\n",
        lib_canvas="import numpy as np\nfrom PIL import Image",
        lib_bristle="import stages.lib.brush\nimport os.path",
        lib_params="import pydantic",
        lib_terminal="import cv2",
        lib_unused="import keras",
    )
    needs = stage_needs("paint", tmp_path)
    lib = {f"stages/lib/{name}.py" for name in ("brush", "canvas", "bristle", "params")}
    assert needs.files == {"stages/paint.py", *lib}
    assert needs.packages == {"numpy", "pillow"}


def test_sections_and_the_code_of_registered_models_are_found(tmp_path: Path) -> None:
    write(
        tmp_path,
        paint='params = load_params(PaintParams, "colours")\nserve = Path("stages/lib/serve_painter.py")',
        lib_serve_painter="import mlflow",
    )
    needs = stage_needs("paint", tmp_path)
    assert needs.sections == {"colours"}
    assert needs.files == {"stages/paint.py", "stages/lib/serve_painter.py"}


def test_a_package_that_nobody_has_judged_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, paint="import torch")
    with pytest.raises(ValueError, match=r"stages/paint\.py imports torch"):
        stage_needs("paint", tmp_path)
