"""What a stage needs is read from its source, and listed as folders where it needs all that is in them."""

from pathlib import Path

import pytest

from ops.dev.dependencies import shortest, stage_needs


def write(root: Path, **modules: str) -> None:
    """Writes stages/NAME.py, or stages/ROOM/NAME.py for ROOM__NAME, and empty packages."""
    for name, source in modules.items():
        path = root / "stages" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(source)


def test_imports_are_followed_through_every_form(tmp_path: Path) -> None:
    write(
        tmp_path,
        paint="import stages.tools.brush\nfrom stages.tools import canvas\nfrom stages.core.params import Params",
        tools__brush="def stroke():\n    from stages.tools.bristle import hair\n",
        tools__canvas="import numpy as np\nfrom PIL import Image\nfrom stages.running import terminal",
        tools__bristle="import stages.tools.brush\nimport os.path",
        tools__unused="import keras",
        core__params="import pydantic",
        running__terminal="import cv2",
    )
    needs = stage_needs("paint", tmp_path)
    tools = {f"stages/tools/{name}.py" for name in ("brush", "canvas", "bristle")}
    assert needs.files == {"stages/paint.py", "stages/core/params.py", *tools}
    assert needs.packages == {"numpy", "pillow"}


def test_sections_and_the_code_of_registered_models_are_found(tmp_path: Path) -> None:
    write(
        tmp_path,
        paint='params = load_params(PaintParams, "colours")\nserve = Path("stages/serving/painter/model.py")',
        serving__painter__model="import mlflow\nimport scipy",
    )
    needs = stage_needs("paint", tmp_path)
    assert needs.sections == {"colours"}
    assert needs.files == {"stages/paint.py", "stages/serving/painter/model.py"}
    assert needs.packages == {"scipy"}


def test_a_package_that_nobody_has_judged_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, paint="import torch")
    with pytest.raises(ValueError, match=r"stages/paint\.py imports torch"):
        stage_needs("paint", tmp_path)


def test_a_folder_stands_for_its_modules_when_all_are_needed_and_only_then(tmp_path: Path) -> None:
    write(
        tmp_path,
        paint="",
        core__params="",
        core__outputs="",
        tools__brush="",
        tools__canvas="",
        kits__oil__knife="",
        kits__oil__rag="",
        kits__water__sponge="",
    )
    files = {"stages/paint.py", "stages/core/params.py", "stages/core/outputs.py", "stages/tools/brush.py"}
    files |= {"stages/kits/oil/knife.py", "stages/kits/oil/rag.py"}
    listed = ["stages/paint.py", "stages/core", "stages/kits/oil", "stages/tools/brush.py"]
    assert sorted(shortest(files, tmp_path)) == sorted(listed)
    assert shortest(files, tmp_path)[0] == "stages/paint.py"
    everything = files | {"stages/kits/water/sponge.py", "stages/tools/canvas.py"}
    assert sorted(shortest(everything, tmp_path)) == ["stages/core", "stages/kits", "stages/paint.py", "stages/tools"]
