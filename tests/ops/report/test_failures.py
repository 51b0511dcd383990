"""ops.report.failures: the report of a failed pipeline, with the affected images."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ops.pages.document import Document, Listing, Paragraph, Picture, Table
from ops.pages.html import page
from ops.pages.markdown import markdown
from ops.report.failures import FAILED, PASSED, find_failure
from stages.core.dataset import SCHEMA
from stages.running.terminal import UserError
from tests.conftest import ROOT, tiny_ingest, user_environment
from tests.ops.report.test_report import CLASSES, add_images


def text_of(failure, folder: Path) -> str:
    document = Document("", "", failure.sentence, [failure.section], "")
    assert page(document, folder)
    return markdown(document)


def test_bad_data_is_shown_with_its_images(project):
    """What the real validate stage leaves, of blank images in a class and of files left out."""
    folder = tiny_ingest(project, classes=CLASSES, train=12, val=6, test=6)
    add_images(2, 2, fill=9)
    rows = pq.read_table(folder / "manifest.parquet").to_pylist()
    left_out = [
        {
            **rows[1],
            "source": "train/ball/a, b.png",
            "label": 0,
            "class": "ball",
            "reason": f"duplicate of {rows[1]['source']}",
        },
        {**rows[0], "source": "train/ball/`cut`.png", "sha256": None, "reason": "damaged: truncated"},
    ]
    pq.write_table(pa.Table.from_pylist(rows + left_out, schema=SCHEMA), folder / "manifest.parquet")
    environment = user_environment() | {"VISIONLOOP_TRACKING": "off", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "stages.validate"], env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    failure = find_failure([], None, None, project)
    assert failure is not None
    assert failure.sentence.startswith(
        "validation failed: 3 expectations are not met, such as: at most 0.01 of the files"
    )
    written = text_of(failure, project)
    pictures = [block.name for block in failure.section.blocks if isinstance(block, Picture)]
    assert pictures == ["concerned.png", "rejected.png"]
    assert all((project / name).stat().st_size > 500 for name in pictures)
    table = failure.section.blocks[1]
    assert isinstance(table, Table)
    assert [row[1] for row in table.rows] == ["1 of 76", "2 of 76", "2 of 74"]
    assert r"train/ball/\`cut\`.png" in written
    assert "&lt;i&gt;cup" in written
    assert "<i>" not in written


def test_a_report_of_earlier_data_is_not_taken_for_this_one(project):
    tiny_ingest(project)
    FAILED.parent.mkdir(parents=True)
    row = {"expectation": "x", "success": False, "unexpected": 1, "rows": 2, "where": "splits.a", "param": None}
    FAILED.write_text(json.dumps({"expectations": [{**row, "examples": ["train"]}]}))
    assert find_failure([], None, None, project) is not None
    for stale, stage, says in (([], "train_cnn", "train_cnn failed"), (["ingest"], None, "not run yet: ingest")):
        failure = find_failure(stale, stage, None, project)
        assert failure is not None
        assert failure.sentence == says
    PASSED.parent.mkdir(parents=True)
    PASSED.write_text("a digest")
    assert find_failure([], None, None, project) is None


def test_a_stage_that_failed_is_named_with_the_end_of_its_log(project):
    log = project / "log"
    log.write_text("> python -m stages.ingest\nerror: 2 of 9 images cannot be decoded: <b>.png\nERROR: failed\n")
    failure = find_failure(["ingest"], "ingest", log, project)
    assert failure is not None
    assert failure.sentence == "ingest failed: 2 of 9 images cannot be decoded: <b>.png"
    assert [type(block) for block in failure.section.blocks] == [Paragraph, Listing]
    assert "```text\n> python -m stages.ingest\nerror: 2 of 9" in text_of(failure, project)
    with pytest.raises(UserError, match="cannot be read"):
        find_failure([], "ingest", project / "none", project)
