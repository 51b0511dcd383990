"""The README keeps what it promises as far as a file can: its links, pictures and params exist."""

import re

import pytest
import yaml

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
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


def test_the_modules_that_commands_run_exist():
    modules = re.findall(r"python -m ([\w.]+)", README)
    assert modules
    assert [module for module in modules if not (ROOT / f"{module.replace('.', '/')}.py").exists()] == []
