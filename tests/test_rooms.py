"""The folders are the architecture: who may import whom, and how long a file may be."""

import ast
from pathlib import Path

import pytest

from ops.dev.dependencies import imported_modules
from tests.conftest import ROOT

# Lower rooms first: a module imports from its own room and from rooms below it.
ROOMS = (
    *("stages.imaging", "stages.running", "stages.core", "stages.drawing"),
    *("stages.ingestion", "stages.validation", "stages.augmentation", "stages.training"),
    *("stages.classifier", "stages.reference_network", "stages.generator", "stages.serving", "stages.evaluation"),
    *("stages", "ops", "bench"),
)
FILES = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for top in ("stages", "ops", "bench")
    for path in sorted((ROOT / top).rglob("*.py"))
}


def room_of(module: str) -> str:
    return max((room for room in ROOMS if module == room or module.startswith(f"{room}.")), key=len)


def imports_of(module: str) -> set[str]:
    """The modules of this project that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        found |= {name for name in imported_modules(node) if name in FILES and FILES[name].name != "__init__.py"}
    return found - {module}


IMPORTS = {module: imports_of(module) for module in FILES}


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_from_its_own_room_and_from_rooms_below(module: str) -> None:
    upwards = {other for other in IMPORTS[module] if ROOMS.index(room_of(other)) > ROOMS.index(room_of(module))}
    assert upwards == set()


def test_what_travels_into_served_models_imports_nothing_of_the_project() -> None:
    for module in FILES:
        if module.startswith("stages.imaging."):
            assert {other for other in IMPORTS[module] if not other.startswith("stages.imaging.")} == set()


def test_there_is_no_circle_of_imports() -> None:
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(IMPORTS[module]):
                walk(other, (*path, module))
            done.add(module)

    for module in FILES:
        walk(module, ())


@pytest.mark.parametrize("module", FILES)
def test_nobody_uses_the_private_names_of_another_module(module: str) -> None:
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    names = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    private = {full for full in names.values() if full.split(".")[0] in ("stages", "ops", "bench") and "._" in full}
    private |= {
        f"{names[node.value.id]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and names.get(node.value.id) in FILES
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
    }
    assert private == set()


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_is_too_long_to_read() -> None:
    longest = {"stages": 350, "ops": 350, "bench": 350, "tests": 650}
    long = {
        path.relative_to(ROOT).as_posix(): lines(path)
        for top, limit in longest.items()
        for path in (ROOT / top).rglob("*.py")
        if lines(path) > limit
    }
    assert long == {}


def test_a_stage_script_is_at_most_a_hundred_lines() -> None:
    assert {path.name: lines(path) for path in (ROOT / "stages").glob("*.py") if lines(path) > 100} == {}


def test_the_tests_mirror_the_code() -> None:
    """tests/ROOM/test_MODULE.py is about stages/ROOM/MODULE.py, and likewise below tests/ops."""
    stray = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.relative_to(ROOT / "tests").parent.as_posix()
        if folder == ".":
            continue
        room = ROOT / (folder if folder.startswith(("ops", "cli")) else f"stages/{folder}")
        if not room.is_dir():
            stray.append(path.relative_to(ROOT).as_posix())
    assert stray == []
