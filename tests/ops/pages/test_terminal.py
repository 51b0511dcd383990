"""ops.pages.terminal: aligned columns without spaces at the ends of lines; numbers stay as they are written."""

from ops.pages.terminal import aligned


def test_columns_are_aligned_and_texts_stay():
    rows = [["metric", "value", "note"], ["a", "1.50", ""], ["longer", "12.0", "below"]]
    assert aligned(rows, "lrl") == ["metric  value  note", "a        1.50", "longer   12.0  below"]
