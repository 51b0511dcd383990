"""A document as one self-contained HTML page: the style sheet and the pictures are embedded.

Reads page.html.j2 (the template, which escapes every text) and style.css in this folder, and the document's pictures.
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
    """The document as a page, with its pictures from `folder`. style: additional CSS."""
    sheet = (HERE / "style.css").read_text(encoding="utf-8") + (f"{style}\n" if style else "")

    def embedded(picture: Picture) -> Embedded:
        return embed(folder / picture.name)

    return _environment().get_template("page.html.j2").render(document=document, style=Markup(sheet), embedded=embedded)


class Embedded(NamedTuple):
    """A PNG as embedded in a page."""

    address: str
    width: int
    height: int


def embed(png: Path) -> Embedded:
    """A picture as a data URL, with its size in px from the PNG header."""
    content = png.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    return Embedded(f"data:image/png;base64,{base64.b64encode(content).decode()}", width, height)


@cache
def _environment() -> Environment:
    """The template environment: escapes every value, and has the filter `kind` for the type of a block or text."""
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
