"""README is short and up to date; tests/test_docs.py holds the other pages to what they promise."""

import re

import pytest
import yaml

from ops.__main__ import COMMANDS
from ops.dev.metrics_page import filled
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "bench/RESULTS.md"]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 130


def test_it_shows_every_stage_and_every_folder() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE) == list(stages)
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and (path.name + "/") in README}
    assert {"stages", "ops", "data", "presets", "bench", "services", "tests", "docs"} <= folders


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_left_to_be_filled_in(page) -> None:
    assert re.findall(r"@[A-Z]+@|TODO|TBD", page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_exist(page) -> None:
    text = page.read_text(encoding="utf-8")
    known = {name for group in COMMANDS.values() for name in group}
    named = re.findall(r"(?:python3? -m ops|uv run visionloop|`visionloop) ([a-z-]+)", text)
    assert [name for name in named if name not in known] == []
    modules = re.findall(r"python3? -m ((?:stages|bench)\.[a-z]\w*)", text)
    files = {f"{module.replace('.', '/')}.py" for module in modules} - set(re.findall(r"^Create `(.*)`:", text, re.M))
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert re.findall(r"python3? -m (?:ops\.[a-z]|stages\.lib)", text) == []


def test_the_tables_of_metrics_are_up_to_date() -> None:
    page = ROOT / "docs/metrics.md"
    assert filled(page.read_text(encoding="utf-8")) == page.read_text(encoding="utf-8")
