"""A document as one HTML page that needs no other file: style sheet and pictures are part of it.

Reads page.html.j2 (the template, which escapes every text) and style.css beside this file, and the document's pictures.
"""

import base64
import struct
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ops.pages.document import Document, Picture
from ops.pages.text import last_lines, one_line

HERE = Path(__file__).parent


def page(document: Document, folder: Path, style: str = "") -> str:
    """The document as a page; its pictures are those in `folder`. style: CSS of this document's own."""
    sheet = (HERE / "style.css").read_text(encoding="utf-8") + (f"{style}\n" if style else "")

    def embedded(picture: Picture) -> Embedded:
        return embed(folder / picture.name)

    return _environment().get_template("page.html.j2").render(document=document, style=Markup(sheet), embedded=embedded)


class Embedded(NamedTuple):
    """A PNG as a part of a page."""

    address: str
    width: int
    height: int


def embed(png: Path) -> Embedded:
    """The picture as a data URL, and its size in px, from its header."""
    content = png.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    return Embedded(f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height)


@cache
def _environment() -> Environment:
    """Templates escape what they are given; of a value they ask which kind of block or text it is."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"kind": lambda value: type(value).__name__, "one_line": one_line, "last_lines": last_lines}
    return environment
