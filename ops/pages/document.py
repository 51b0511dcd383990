"""A document as plain values: a headline and sections of paragraphs, tables, pictures and logs.

Written as Markdown for GitHub by ops/pages/markdown.py, and as one HTML page by ops/pages/html.py.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Strong(NamedTuple):
    text: str


class Emphasis(NamedTuple):
    text: str


class Code(NamedTuple):
    text: str


class Link(NamedTuple):
    text: str
    address: str


Piece = str | Strong | Emphasis | Code | Link
Text = Piece | list[Piece]


class Paragraph(NamedTuple):
    text: Text


class Table(NamedTuple):
    """`align` has a letter per column: l, r or c. A table with the summary text `folded` is collapsed at first."""

    head: Sequence[str]
    rows: Sequence[Sequence[Text]]
    align: str
    folded: str = ""


class Picture(NamedTuple):
    """A PNG in the document's folder. On a phone, the page shows the right half of a pair below the left half."""

    name: str
    alt: str
    pair: bool = False


class Listing(NamedTuple):
    """The last lines of a log, verbatim."""

    text: str


Block = Paragraph | Table | Picture | Listing


class Section(NamedTuple):
    title: str
    blocks: list[Block]


class Document(NamedTuple):
    title: str  # of the page
    heading: str  # of the Markdown, which appears among other comments
    headline: Text
    sections: list[Section]
    footer: Text
