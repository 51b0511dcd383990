"""A document in GitHub's Markdown, for a comment or an issue.

Texts come from data (class names, file names, logs) and are never trusted: everything is escaped.
"""

import re

from ops.pages.document import Block, Code, Document, Emphasis, Listing, Paragraph, Picture, Strong, Text
from ops.pages.text import last_lines, one_line

GITHUB_LIMIT = 65_536  # characters of a comment
RESERVED = 1_536  # of them for the program that posts the comment and lengthens the addresses of pictures
# Maximum rows of a table and characters of a text, tried in turn until the document fits.
SIZES = ((40, 300), (20, 120), (8, 60), (3, 30), (1, 12))
# A zero-width space: without it, GitHub turns names after @, numbers after # and addresses into links.
ZERO_WIDTH_SPACE = "&#8203;"


def markdown(document: Document, marker: str = "", limit: int = GITHUB_LIMIT - RESERVED) -> str:
    """The document in at most `limit` characters: tables and texts are shortened until it fits.

    marker: the first line, an HTML comment that identifies the comment on GitHub later.
    """
    for rows, characters in SIZES:
        parts = [*([marker] if marker else []), f"## {document.heading}"]
        parts.append(_paragraph(document.headline, 4 * characters))
        for section in document.sections:
            parts.append(f"### {_text(section.title, characters)}")
            parts += [_block(block, rows, characters) for block in section.blocks]
        closing = ["---", f"<sub>{_text(document.footer, 100)}</sub>"]
        if len(text := _joined(parts + closing)) <= limit:
            return text
    closing = ["*shortened: report.html has the rest*", *closing]
    excess = len(_joined(parts + closing)) - limit
    while excess > 0:
        excess -= len(parts.pop()) + 2
    return _joined(parts + closing)


def _joined(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"


def _block(block: Block, rows: int, characters: int) -> str:
    if isinstance(block, Paragraph):
        return _paragraph(block.text, 4 * characters)
    if isinstance(block, Picture):
        return f"![{_escape(block.alt, characters)}]({block.name})"
    if isinstance(block, Listing):
        text = last_lines(block.text, rows, 150 * rows)
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        return f"{fence}text\n{text}\n{fence}"
    marks = {"l": ":--", "r": "--:", "c": ":-:"}
    lines = [block.head, [marks[letter] for letter in block.align]]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    for row in block.rows[:rows]:
        text += "\n| " + " | ".join(_text(cell, characters) for cell in row) + " |"
    if len(block.rows) > rows:
        text += f"\n\nand {len(block.rows) - rows:,} more"
    if block.folded:
        return f"<details><summary>{_escape(block.folded, characters)}</summary>\n\n{text}\n\n</details>"
    return text


def _paragraph(text: Text, length: int) -> str:
    """A text as a paragraph: escapes a dash, a hash or a number at its start, which would begin a list or a heading."""
    escaped = re.sub(r"^(\s*)([-+=#>])", r"\1\\\2", _text(text, length))
    return re.sub(r"^(\s*\d+)([.)])", r"\1\\\2", escaped)


def _text(text: Text, length: int) -> str:
    if isinstance(text, list):
        return "".join(_text(piece, length) for piece in text)
    if isinstance(text, str):
        return _escape(text, length)
    inner = _escape(text.text.strip(), length)
    if not inner:
        return ""
    if isinstance(text, Strong):
        return f"**{inner}**"
    if isinstance(text, Emphasis):
        return f"*{inner}*"
    if isinstance(text, Code):
        return f"<code>{inner}</code>"
    address = text.address.replace("(", "%28").replace(")", "%29").replace(" ", "%20").replace("|", "%7C")
    return f"[{inner}]({_entities(address)})"


def _escape(text: str, length: int) -> str:
    text = re.sub(r"([\\`*_{}\[\]|~!$])", r"\\\1", _entities(one_line(text, length)))
    links = r"([@#])(?=\w)|(:)(?=//)|\b(www)(?=\.)|\b(GH)(?=-\d)"
    return re.sub(links, lambda found: found[0] + ZERO_WIDTH_SPACE, text, flags=re.I)


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
