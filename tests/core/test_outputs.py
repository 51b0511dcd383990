"""stages.core.outputs: outputs appear whole or not at all."""

import json

import numpy as np
import pytest

from stages.core.outputs import atomic_folder, write_metrics, write_table


def test_a_folder_replaces_the_old_one_as_a_whole(tmp_path):
    (tmp_path / "data/stage/sub").mkdir(parents=True)
    (tmp_path / "data/stage/sub/old").write_text("old")
    with atomic_folder(tmp_path / "data/stage") as folder:
        (folder / "new").write_text("new")
        assert (tmp_path / "data/stage/sub/old").exists()
        assert not (tmp_path / "data/stage/new").exists()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["data", "new", "stage"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_folder_as_it_was(tmp_path, error):
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage/old").write_text("old")

    def fail() -> None:
        with atomic_folder(tmp_path / "stage") as folder:
            (folder / "half").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["stage", "stage/old"]
    assert (tmp_path / "stage/old").read_text() == "old"


def test_what_a_killed_run_left_is_cleared(tmp_path):
    for name in (".stage.partial", ".stage.replaced.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
    with atomic_folder(tmp_path / "stage") as folder:
        assert list(folder.iterdir()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["stage"]


def test_what_was_moved_away_is_put_back(tmp_path):
    (tmp_path / ".stage.replaced.partial").mkdir()
    (tmp_path / ".stage.replaced.partial/old").write_text("old")

    def fail() -> None:
        with atomic_folder(tmp_path / "stage"):
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["stage", "stage/old"]


def test_metrics_are_plain_numbers_of_six_decimals(tmp_path):
    write_metrics(tmp_path / "m.json", {"cnn": {"accuracy": 2 / 3, "epoch": 7, "tiny": 1e-9}, "gan": {"fd": 12.0}})
    assert (tmp_path / "m.json").read_text() == (
        '{\n  "cnn": {\n    "accuracy": 0.666667,\n    "epoch": 7,\n    "tiny": 0.0\n  },\n'
        '  "gan": {\n    "fd": 12.0\n  }\n}\n'
    )


def test_metrics_of_numpy_are_written_as_numbers(tmp_path):
    write_metrics(tmp_path / "m.json", {"gan": {"fd": np.float64(1.23456789)}})
    assert json.loads((tmp_path / "m.json").read_text()) == {"gan": {"fd": 1.234568}}


def test_tables_have_a_header_and_unix_lines(tmp_path):
    write_table(tmp_path / "t.csv", [{"step": 1, "loss": 1 / 3}, {"step": 2, "loss": 0.5}])
    assert (tmp_path / "t.csv").read_bytes() == b"step,loss\n1,0.333333\n2,0.5\n"
    write_table(tmp_path / "t.csv", [{"class": 'a "b", c\n猫'}])
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == 'class\n"a ""b"", c\n猫"\n'


def test_a_name_in_a_table_cannot_end_the_script_of_a_page(tmp_path):
    # DVC shows tables as plots: in a page whose script holds the rows as JSON, which leaves `<` as it is.
    write_table(tmp_path / "t.csv", [{"class": "</script><script>alert(1)</script>"}, {"class": "<!--"}])
    text = (tmp_path / "t.csv").read_text(encoding="utf-8")
    assert "<" not in text
    assert "\u2039/script>\u2039script>alert(1)" in text


def test_tables_without_rows_have_a_header(tmp_path):
    write_table(tmp_path / "a.csv", [], ["x", "y"])
    write_table(tmp_path / "b.csv", iter([{"x": 1, "y": "a"}]), ["x", "y"])
    assert (tmp_path / "a.csv").read_text() == "x,y\n"
    assert (tmp_path / "b.csv").read_text() == "x,y\n1,a\n"


def test_no_column_of_a_table_can_end_the_script_of_a_page(tmp_path):
    write_table(tmp_path / "a.csv", [{"p_</script>": 0.5}])
    assert "<" not in (tmp_path / "a.csv").read_text(encoding="utf-8")
