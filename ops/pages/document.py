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
    """`align` has a letter per column: l, r or c. With `folded` it is closed, under these words, until opened."""

    head: Sequence[str]
    rows: Sequence[Sequence[Text]]
    align: str
    folded: str = ""


class Picture(NamedTuple):
    """A PNG in the document's folder. Of a pair the page puts the right half below the left one on a phone."""

    name: str
    alt: str
    pair: bool = False


class Listing(NamedTuple):
    """Lines of a log, as they are; of a long one the last."""

    text: str


Block = Paragraph | Table | Picture | Listing


class Section(NamedTuple):
    title: str
    blocks: list[Block]


class Document(NamedTuple):
    title: str  # of the page
    heading: str  # of the Markdown, which stands among other people's texts
    headline: Text
    sections: list[Section]
    footer: Text
