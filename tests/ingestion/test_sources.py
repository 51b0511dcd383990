"""stages.ingestion.sources: folders as data sets."""

from pathlib import Path

import pytest

from stages.imaging.decode import Extent
from stages.ingestion.sources import open_source
from stages.running.terminal import UserError
from tests.ingestion.test_archives import EXPECTED, MEMBERS, values, write_zip


def write_folder(root: Path) -> Path:
    for name, data in MEMBERS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_folder(tmp_path):
    assert values(write_folder(tmp_path / "pets")) == EXPECTED


def test_links_to_files_are_followed_and_loops_end(tmp_path):
    root = write_folder(tmp_path / "pets")
    (root / "cat" / "cached.png").symlink_to(root / "dog" / "3.png")
    (root / "cat" / "loop").symlink_to(root)
    (root / "dog" / "broken.png").symlink_to(root / "nowhere")
    with open_source(root) as source:
        found = {item.source: item.payload for item in source.items}
    assert isinstance(found["cat/cached.png"], Extent)
    assert found["dog/broken.png"] == "not a regular file, or a broken link"
    assert len(found) == 6


def test_a_missing_entry_lists_those_that_exist(tmp_path):
    write_zip(tmp_path / "pets.zip")
    (tmp_path / "birds.dvc").write_text("outs: []")
    with pytest.raises(UserError, match=r"not found; .*can be pets.zip, or a folder"), open_source(tmp_path / "cats"):
        pass
    with pytest.raises(UserError, match=r"`dvc pull .*birds`"), open_source(tmp_path / "birds"):
        pass
