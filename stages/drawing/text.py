"""Makes texts from data (names of classes, files and params) fit to show: printable, and not too long."""


def printable(text: str) -> str:
    """`text` with a replacement character for each one that is invisible or changes the direction of writing."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def shortened(text: str, length: int) -> str:
    """At most `length` characters of `text`: its beginning, and an ellipsis in place of the rest."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def shortened_in_the_middle(text: str, length: int) -> str:
    """At most `length` characters of `text` (4 or more): its beginning and its end, and an ellipsis between them."""
    half = length // 2
    return text if len(text) <= length else f"{text[:half]}…{text[1 - half :]}"
