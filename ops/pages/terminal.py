"""Tables for the terminal."""

from collections.abc import Sequence

from tabulate import tabulate


def aligned(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """One line per row, header included, with two spaces between columns; `align` has a letter per column: l or r."""
    sides = ["right" if letter == "r" else "left" for letter in align]
    text = tabulate(rows, tablefmt="plain", colalign=sides, disable_numparse=True)
    return [line.rstrip() for line in text.splitlines()]
