"""ops.pages: nothing that data says may mark up a page, and a comment never outgrows GitHub's limit."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ops.pages.document import (
    Block,
    Code,
    Document,
    Emphasis,
    Link,
    Listing,
    Paragraph,
    Picture,
    Section,
    Strong,
    Table,
)
from ops.pages.html import page
from ops.pages.markdown import GITHUB_LIMIT, markdown
from ops.pages.text import one_line
from stages.drawing.grids import image_grid

UNFRIENDLY = "a|b `c` <img src=x> @octocat #12 [x](y) *b* https://evil.example www.evil.example\n# h\u202e $x$ \\"


MARKER = "<!-- report -->"


def document(*blocks, headline="nothing was changed") -> Document:
    sections = [Section("Data", list(blocks))]
    return Document("The page", "Report", headline, sections, ["Made by ", Code("python -m ops report")])


def table(*names: str) -> Table:
    return Table(("class", "images"), [[name, "1"] for name in names], "lr")


class Texts(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def test_the_first_line_is_the_marker_and_sections_are_headings():
    value = document(Paragraph([Strong("cat"), " and ", Emphasis("dog"), " and ", Code("x_y")]))
    lines = markdown(value, MARKER).splitlines()
    assert lines[:3] == [MARKER, "", "## Report"]
    assert lines[2:] == markdown(value).splitlines()
    assert "### Data" in lines
    assert r"**cat** and *dog* and <code>x\_y</code>" in lines


def test_unfriendly_names_stay_text_in_markdown():
    text = markdown(document(table(UNFRIENDLY), Paragraph(Code(UNFRIENDLY)), headline=UNFRIENDLY))
    row = next(line for line in text.splitlines() if line.startswith("| a"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3  # two cells
    for harmful in ("<img", "@octocat", "#12", "://", "www.evil", "](y)", "\u202e"):
        assert harmful not in text.replace(r"\]", ""), harmful
    assert not re.search(r"(?<!\\)[`*$]", row)


@pytest.mark.parametrize("start", ["# a", "- a", "+ a", "1. a", "= a", "> a"])
def test_a_paragraph_that_begins_like_a_list_or_heading_is_none(start):
    line = markdown(document(Paragraph(start))).splitlines()[6]
    assert line.startswith(("\\", "1\\", "&gt;"))


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_name_is_one_cell_in_markdown_and_the_same_text_in_html(name, other):
    value = document(table(name, other))
    rows = [line for line in markdown(value).splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 2
    assert all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3 for row in rows)
    written = page(value, Path())
    parsed = Texts(written)
    assert parsed.cells[0] == one_line(name, 1000)
    assert parsed.tags.count("td") == 4


def test_a_log_is_quoted_by_its_last_lines_whatever_is_in_it():
    log = (
        "first\n"
        + "".join(f"line {k}\n" for k in range(200))
        + "```\n\x1b[31merror\x1b[0m: @octocat\nwork 1%\rwork 99%\n"
    )
    quoted = markdown(document(Listing(log))).split("````text\n")[1].split("\n````")[0].splitlines()
    assert quoted[-3:] == ["```", "error: @octocat", "work 99%"]  # GitHub calls nobody from within a fence
    assert quoted[0] != "first"
    assert len(quoted) == 40
    assert "line 0\n" not in page(document(Listing(log)), Path())[-5000:]


def test_a_link_and_a_picture(tmp_path):
    image_grid(np.zeros((1, 8, 8, 1), np.uint8), tmp_path / "added.png", 1)
    value = document(Paragraph(Link("run", "http://host:5000/#/experiments/1/runs/2")), Picture("added.png", "1 image"))
    assert "[run](http://host:5000/#/experiments/1/runs/2)" in markdown(value)
    assert "![1 image](added.png)" in markdown(value)
    written = page(value, tmp_path)
    assert 'href="http://host:5000/#/experiments/1/runs/2"' in written
    assert 'src="data:image/png;base64,' in written
    assert "added.png" not in written


def test_long_tables_are_cut_and_say_so():
    text = markdown(document(table(*(f"class {k}" for k in range(1000)))))
    assert "and 960 more" in text
    assert "class 39 " in text
    assert "class 40 " not in text


@pytest.mark.parametrize(("tables", "cut"), [(30, False), (2000, True)])
def test_whatever_the_data_the_comment_fits(tables, cut):
    names = ["@" * 30] * 2
    blocks: list[Block] = [*[table(*names)] * tables, Paragraph("|" * 10**5), Listing("`" * 10**5)]
    text = markdown(Document("", "Report", "<" * 10**5, [Section("&" * 1000, blocks)] * 3, "the footer"), MARKER)
    assert text.startswith(MARKER)
    assert len(text) < GITHUB_LIMIT
    assert ("*shortened: report.html" in text) is cut
    assert text.endswith("<sub>the footer</sub>\n")


def test_folded_tables_open_in_both():
    value = document(Table(("a",), [["b"]], "l", folded="more <of> it"))
    assert "<details><summary>more &lt;of&gt; it</summary>\n\n| a |" in markdown(value)
    assert f"<summary>{html.escape('more <of> it')}</summary>" in page(value, Path())


def test_a_page_is_one_file_with_its_own_style_last():
    written = page(document(Paragraph("text"))._replace(title="Us & them"), Path(), style="td { color: red; }")
    assert "<title>Us &amp; them</title>" in written
    assert "<h1>Us &amp; them</h1>" in written
    assert written.index(":root {") < written.index("td { color: red; }\n</style>")
    assert "<link" not in written


def test_what_looks_like_a_template_stays_text():
    assert "<p>{{ 7 * 7 }} {% for %}</p>" in page(document(Paragraph("{{ 7 * 7 }} {% for %}")), Path())


def test_of_a_pair_each_half_has_its_place(tmp_path):
    image_grid(np.zeros((2, 8, 8, 1), np.uint8), tmp_path / "pair.png", 2, tile=16)
    with Image.open(tmp_path / "pair.png") as picture:
        width, height = picture.size
    written = page(document(Picture("pair.png", 'one "and" the other', pair=True)), tmp_path)
    assert written.count(f'<div style="aspect-ratio: {width / 2:g} / {height}"></div>') == 2
    assert 'aria-label="one &#34;and&#34; the other"' in written
    assert "<figcaption>one &#34;and&#34; the other</figcaption>" in written
