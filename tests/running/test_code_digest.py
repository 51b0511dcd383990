"""Digests of code: what changes them, and what does not."""

from pathlib import Path

import pytest
from dvc.repo import Repo

from stages.running.code_digest import code_digest, code_files
from tests.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the project's .dvcignore and a package."""
    (tmp_path / ".dvcignore").write_bytes((ROOT / ".dvcignore").read_bytes())
    package = tmp_path / "stages/painting"
    (package / "oil").mkdir(parents=True)
    for name in ("__init__.py", "brush.py", "oil/__init__.py", "oil/varnish.py"):
        (package / name).write_text(f"# {name}\n")
    (tmp_path / "stages/paint.py").write_text("# paint\n")
    return tmp_path


def digest(checkout: Path) -> str:
    return code_digest(checkout / "stages/painting", checkout)


@pytest.mark.parametrize(
    "path",
    ["__pycache__/brush.cpython-313.pyc", "oil/__pycache__/varnish.txt", "brush.pyc", ".DS_Store", "oil/Thumbs.db"],
)
def test_what_dvcignore_excludes_changes_nothing(checkout: Path, path: str) -> None:
    before, stray = digest(checkout), checkout / "stages/painting" / path
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("stray")
    assert digest(checkout) == before


def test_files_of_other_packages_change_nothing(checkout: Path) -> None:
    before = digest(checkout)
    (checkout / "stages/paint.py").write_text("# painted\n")
    assert digest(checkout) == before


def test_a_changed_byte_a_new_file_and_a_renamed_file_change_it(checkout: Path) -> None:
    package, found = checkout / "stages/painting", [digest(checkout)]
    (package / "oil/varnish.py").write_text("# oil/Varnish.py\n")
    found.append(digest(checkout))
    (package / "style.css").write_text("")
    found.append(digest(checkout))
    (package / "oil/varnish.py").rename(package / "oil/lacquer.py")
    found.append(digest(checkout))
    (package / "oil/lacquer.py").rename(package / "lacquer.py")
    found.append(digest(checkout))
    assert len(set(found)) == len(found)


def test_a_pattern_leaves_out_files_of_other_names(checkout: Path) -> None:
    before = code_digest(checkout / "stages", checkout, "*.py")
    (checkout / "stages/painting/style.css").write_text("")
    assert code_digest(checkout / "stages", checkout, "*.py") == before
    (checkout / "stages/painting/oil/varnish.py").unlink()
    assert code_digest(checkout / "stages", checkout, "*.py") != before


def test_a_file_has_a_digest_of_its_own(checkout: Path) -> None:
    script = checkout / "stages/paint.py"
    assert code_files(script, checkout) == [script]
    before = code_digest(script, checkout)
    script.write_text("# Paint\n")
    assert code_digest(script, checkout) != before


def test_two_checkouts_of_the_same_code_have_the_same_digest(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other") / "checkout"
    checkout.rename(other)
    before = code_digest(other / "stages", other)
    monkeypatch.chdir(other)
    assert code_digest(Path("stages"), Path()) == before


def test_no_file_is_no_digest(checkout: Path) -> None:
    (checkout / "stages/empty").mkdir()
    for path in ("empty", "missing", "missing.py"):
        with pytest.raises(FileNotFoundError, match="no code at "):
            code_digest(checkout / "stages" / path, checkout)


def test_a_checkout_without_dvcignore_leaves_nothing_out(checkout: Path) -> None:
    before = digest(checkout)
    (checkout / ".dvcignore").unlink()
    assert digest(checkout) == before
    (checkout / "stages/painting/.DS_Store").write_text("")
    assert digest(checkout) != before


def test_the_files_are_those_that_dvc_hashes() -> None:
    with Repo(str(ROOT)) as repo:
        expected = sorted(Path(path) for path in repo.dvcignore.find(repo.fs, str(ROOT / "stages")))
    assert expected
    assert code_files(ROOT / "stages", ROOT) == expected
