"""File names as text: in a folder or an archive they may be any bytes."""

import re

# Control characters, line ends, characters that change the direction of writing, and lone surrogates.
UNREADABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def readable(name: str) -> str:
    """`name` as one line of text, with escapes for unreadable bytes and characters."""
    if name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return UNREADABLE.sub(lambda found: ascii(found[0])[1:-1], text)
