"""A report as plain values, and how it is written: Markdown for a comment on GitHub, and one self-contained HTML page.

Texts come from data (class names, file names, logs) and are never trusted: both writers escape everything.
"""

import base64
import html
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

MARKER = "<!-- visionloop-report -->"  # by which the comment is found again
GITHUB_LIMIT = 65_536  # characters of a comment
ROOM = 1_536  # of them left to the program that posts it, and rewrites the links of the pictures
# Rows of a table and characters of a text, from generous to what fits whatever the data.
MARKDOWN_SIZES = ((40, 300), (20, 120), (8, 60), (3, 30), (1, 12))
HTML_SIZE = (1000, 1000)
LINE = 600  # characters of a log's line
TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # what colours a terminal
NOTHING = "&#8203;"  # a space of no width: GitHub makes links of names behind @, numbers behind # and addresses without


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
    """A PNG in the report's folder. Of a pair the page puts the right half below the left one on a phone."""

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


class Report(NamedTuple):
    headline: Text
    sections: list[Section]
    footer: Text


def one_line(text: str, length: int) -> str:
    """`text` on one line of at most `length` characters, without what cannot be seen or turns the writing round."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in re.sub(r"\s+", " ", text))
    return plain if len(plain) <= length else plain[: length - 1] + "…"


# ---------------------------------------------------------------- Markdown


def markdown(report: Report, limit: int = GITHUB_LIMIT - ROOM) -> str:
    """The report in GitHub's Markdown, at most `limit` characters: tables, then texts are cut until it fits."""
    for rows, characters in MARKDOWN_SIZES:
        parts = [MARKER, "## Report", _paragraph(report.headline, 4 * characters)]
        for section in report.sections:
            parts.append(f"### {_markdown_text(section.title, characters)}")
            parts += [_markdown_block(block, rows, characters) for block in section.blocks]
        closing = ["---", f"<sub>{_markdown_text(report.footer, 100)}</sub>"]
        if len(text := _joined(parts + closing)) <= limit:
            return text
    closing = ["*cut here: report.html has the rest*", *closing]
    excess = len(_joined(parts + closing)) - limit
    while excess > 0:
        excess -= len(parts.pop()) + 2
    return _joined(parts + closing)


def _joined(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"


def _markdown_block(block: Block, rows: int, characters: int) -> str:
    if isinstance(block, Paragraph):
        return _paragraph(block.text, 4 * characters)
    if isinstance(block, Picture):
        return f"![{_escape(block.alt, characters)}]({block.name})"
    if isinstance(block, Listing):
        text = _last_lines(block.text, rows, 150 * rows)
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        return f"{fence}text\n{text}\n{fence}"
    marks = {"l": ":--", "r": "--:", "c": ":-:"}
    lines = [block.head, [marks[letter] for letter in block.align]]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    for row in block.rows[:rows]:
        text += "\n| " + " | ".join(_markdown_text(cell, characters) for cell in row) + " |"
    if len(block.rows) > rows:
        text += f"\n\nand {len(block.rows) - rows:,} more"
    if block.folded:
        return f"<details><summary>{_escape(block.folded, characters)}</summary>\n\n{text}\n\n</details>"
    return text


def _paragraph(text: Text, length: int) -> str:
    """Text that stands on its own, where a dash, a hash or a number in front would begin a list or a heading."""
    written = re.sub(r"^(\s*)([-+=#>])", r"\1\\\2", _markdown_text(text, length))
    return re.sub(r"^(\s*\d+)([.)])", r"\1\\\2", written)


def _markdown_text(text: Text, length: int) -> str:
    if isinstance(text, list):
        return "".join(_markdown_text(piece, length) for piece in text)
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
    return re.sub(
        r"([@#])(?=\w)|(:)(?=//)|\b(www)(?=\.)|\b(GH)(?=-\d)", lambda found: found[0] + NOTHING, text, flags=re.I
    )


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _last_lines(text: str, count: int, characters: int) -> str:
    """The last lines of a log, without what colours a terminal and of a progress bar its last state."""
    lines = [
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line.rstrip("\r").rpartition("\r")[2])
        for line in TERMINAL.sub("", text).expandtabs(4).split("\n")
    ]
    return "\n".join([line[:LINE] for line in lines if line.strip()][-count:])[-characters:]


# ---------------------------------------------------------------- HTML

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --paper: #ffffff; --line: #d1d9e0; --shade: #f6f8fa;
  --link: #0969da; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117; --line: #3d444d;
  --shade: #151b23; --link: #4493f8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
main { max-width: 940px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.6em; line-height: 1.25; margin: 0 0 12px; }
h2 { font-size: 1.2em; margin: 36px 0 8px; padding-bottom: 4px; border-bottom: 1px solid var(--line); }
p { margin: 10px 0; }
.headline { font-size: 1.1em; padding: 12px 14px; background: var(--shade); border-left: 4px solid var(--link); }
a { color: var(--link); }
code, pre { font: 0.875em/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { background: var(--shade); padding: 1px 5px; border-radius: 4px; }
pre { background: var(--shade); padding: 12px; overflow-x: auto; border-radius: 6px; overflow-wrap: normal; }
.scroll { overflow-x: auto; margin: 10px 0; }
table { border-collapse: collapse; font-size: 0.925em; overflow-wrap: normal; }
th, td { padding: 5px 12px; border: 1px solid var(--line); vertical-align: top; min-width: 3.5em; max-width: 34em; }
td { overflow-wrap: break-word; }
td.l:first-child { min-width: 8em; }
th { background: var(--shade); text-align: left; }
.r { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.c { text-align: center; }
figure { margin: 14px 0; }
img { display: block; max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px;
  background: #ffffff; }
.pair { display: flex; border: 1px solid var(--line); border-radius: 6px; overflow: hidden; }
.pair > div { flex: 1; background: #ffffff var(--picture) left / 200% 100% no-repeat; }
.pair > div + div { background-position: right; }
@media (max-width: 640px) { .pair { display: block; } }
figcaption { color: var(--soft); font-size: 0.875em; margin-top: 4px; }
summary { cursor: pointer; }
footer { margin-top: 40px; padding-top: 12px; border-top: 1px solid var(--line); color: var(--soft);
  font-size: 0.875em; }
"""


def page(report: Report, folder: Path) -> str:
    """The report as one HTML page that needs no other file; the pictures are those in `folder`."""
    sections = "\n".join(
        f"<section>\n<h2>{_html(section.title)}</h2>\n"
        + "\n".join(_html_block(block, folder) for block in section.blocks)
        + "\n</section>"
        for section in report.sections
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>visionloop report</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>visionloop report</h1>
<p class="headline">{_html(report.headline)}</p>
{sections}
<footer>{_html(report.footer)}</footer>
</main>
</body>
</html>
"""


def _html_block(block: Block, folder: Path) -> str:
    if isinstance(block, Paragraph):
        return f"<p>{_html(block.text)}</p>"
    if isinstance(block, Picture):
        content, alt = (folder / block.name).read_bytes(), html.escape(one_line(block.alt, 300))
        address = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        shown = f'<img src="{address}" alt="{alt}">'
        if block.pair:
            width, height = struct.unpack(">II", content[16:24])  # of the PNG's header
            shown = f'<div class="pair" role="img" aria-label="{alt}" style="--picture: url({address})">'
            shown += f'<div style="aspect-ratio: {width / 2:g} / {height}"></div>' * 2 + "</div>"
        return f"<figure>{shown}<figcaption>{alt}</figcaption></figure>"
    if isinstance(block, Listing):
        return f"<pre>{html.escape(_last_lines(block.text, 200, 20_000))}</pre>"
    rows, length = HTML_SIZE
    text = '<div class="scroll"><table>\n<thead><tr>'
    text += "".join(f'<th class="{c}">{_html(name)}</th>' for c, name in zip(block.align, block.head, strict=True))
    text += "</tr></thead>\n<tbody>\n"
    for row in block.rows[:rows]:
        cells = zip(block.align, row, strict=True)
        text += "<tr>" + "".join(f'<td class="{c}">{_html(cell, length)}</td>' for c, cell in cells) + "</tr>\n"
    text += "</tbody></table></div>"
    if len(block.rows) > rows:
        text += f"\n<p>and {len(block.rows) - rows:,} more</p>"
    if block.folded:
        return f"<details><summary>{_html(block.folded)}</summary>\n{text}\n</details>"
    return text


def _html(text: Text, length: int = 2000) -> str:
    if isinstance(text, list):
        return "".join(_html(piece, length) for piece in text)
    inner = html.escape(one_line(text if isinstance(text, str) else text.text, length))
    if isinstance(text, str):
        return inner
    if isinstance(text, Strong):
        return f"<strong>{inner}</strong>"
    if isinstance(text, Emphasis):
        return f"<em>{inner}</em>"
    if isinstance(text, Code):
        return f"<code>{inner}</code>"
    return f'<a href="{html.escape(text.address)}">{inner}</a>'
