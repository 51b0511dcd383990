"""Makes texts from data and logs fit to be shown in a document."""

import re

from stages.drawing.text import printable, shortened

MAX_LINE = 600  # characters of a log's line
ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # for a terminal, such as colours


def one_line(text: str, length: int) -> str:
    """`text` on one line of at most `length` characters, without invisible characters and those that reverse it."""
    return shortened(printable(re.sub(r"\s+", " ", text)), length)


def last_lines(log: str, count: int, characters: int) -> str:
    """The last `count` lines of a log, at most `characters` characters, without escape sequences; a progress bar only
    in its last state."""
    plain = ESCAPE_SEQUENCE.sub("", log).expandtabs(4)
    lines = [printable(line.rstrip("\r").rpartition("\r")[2]) for line in plain.split("\n")]
    return "\n".join([line[:MAX_LINE] for line in lines if line.strip()][-count:])[-characters:]
