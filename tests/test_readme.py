"""The README keeps what it promises as far as a file can: its links, pictures and params exist."""

import re

import pytest
import yaml

from ops.__main__ import COMMANDS
from ops.dev.metrics_page import filled
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "bench/RESULTS.md"]
LINKS = sorted(set(re.findall(r"\]\((?!https?://)([^)#]+)\)", README)))


def test_nothing_is_left_to_be_filled_in():
    assert re.findall(r"@[A-Z]+@|TODO|TBD", README) == []


@pytest.mark.parametrize("link", LINKS)
def test_links_and_pictures_exist(link):
    assert (ROOT / link).is_file()


def test_the_params_that_commands_set_exist():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    named = re.findall(r"-S (\w+)\.(\w+)=", README)
    assert len(named) > 10
    assert [key for section, key in named if key not in params[section]] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_exist(page):
    text = page.read_text(encoding="utf-8")
    known = {name for group in COMMANDS.values() for name in group}
    named = re.findall(r"python3? -m ops ([a-z-]+)", text)
    assert [name for name in named if name not in known] == []
    modules = re.findall(r"python3? -m ((?:stages|bench)[\w.]*)", text)
    assert [module for module in modules if not (ROOT / f"{module.replace('.', '/')}.py").exists()] == []
    assert re.findall(r"python3? -m (?:ops\.[a-z]|stages\.lib)", text) == []


def test_the_tables_of_metrics_are_up_to_date():
    page = ROOT / "docs/metrics.md"
    assert filled(page.read_text(encoding="utf-8")) == page.read_text(encoding="utf-8")
