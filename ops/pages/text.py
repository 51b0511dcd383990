"""Texts from data and logs as a document can show them."""

import re

from stages.drawing.text import printable, shortened

LINE = 600  # characters of a log's line
TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # what colours a terminal


def one_line(text: str, length: int) -> str:
    """`text` on one line of at most `length` characters, without what cannot be seen or turns the writing round."""
    return shortened(printable(re.sub(r"\s+", " ", text)), length)


def last_lines(log: str, count: int, characters: int) -> str:
    """The last lines of a log, at most `characters` of them, without what colours a terminal and of a progress bar its
    last state."""
    lines = [
        printable(line.rstrip("\r").rpartition("\r")[2]) for line in TERMINAL.sub("", log).expandtabs(4).split("\n")
    ]
    return "\n".join([line[:LINE] for line in lines if line.strip()][-count:])[-characters:]
