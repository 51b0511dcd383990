"""The compared metrics and the decisions, as tables for the terminal and in Markdown for GitHub."""

import html
from collections.abc import Sequence
from textwrap import wrap

from ops.pages.terminal import aligned
from ops.project.networks import METRICS, network_of
from ops.promote.comparison import Comparison
from ops.promote.gate.decision import Decision, Line, decimals
from stages.drawing.text import printable, shortened
from stages.evaluation.reporting.metric import Metric

RIGHT = ("candidate", "difference")  # right-aligned columns, in addition to the champion's
MAX_NAME = 20  # characters of a metric's name in the terminal
WIDTH = 100  # of the terminal


def terminal_text(comparison: Comparison, done: bool) -> str:
    """A contender's tables and outcome for the terminal. done: False for a dry run."""
    blocks = [
        [comparison.title],
        [f"  {line}" for line in table(comparison.decision)],
        wrap(_outcome(comparison, done), WIDTH),
    ]
    previous = comparison.previous
    if isinstance(previous, str):
        blocks[-1] += wrap(previous, WIDTH)
    else:
        blocks.append([f"Compared with the previous candidate, version {previous.version} (for information only):"])
        blocks.append([f"  {line}" for line in table(previous.decision, "previous")])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def markdown(comparisons: Sequence[Comparison], done: bool) -> str:
    """The tables and outcomes of all contenders for a comment on GitHub."""
    parts = ["## Promotion"]
    for comparison in comparisons:
        parts += [f"### {comparison.title}", f"**{markdown_safe(_outcome(comparison, done))}**"]
        parts.append(markdown_table(comparison.decision))
        previous = comparison.previous
        if isinstance(previous, str):
            parts.append(markdown_safe(previous))
        else:
            summary = f"Compared with the previous candidate, version {previous.version} (for information only)"
            inner = markdown_table(previous.decision, "previous")
            parts.append(f"<details><summary>{summary}</summary>\n\n{inner}\n</details>")
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _outcome(comparison: Comparison, done: bool) -> str:
    if not comparison.measured:
        return f"Nothing to do: {comparison.decision.reason}."
    if not comparison.decision.promote:
        return f"{'Not promoted' if done else 'Would not be promoted'}: {comparison.decision.reason}."
    return f"{'Promoted' if done else 'Would be promoted'}: {comparison.decision.reason}."


def table(decision: Decision, champion: str = "champion") -> list[str]:
    """The lines of a decision as aligned text, at most 100 columns wide; empty without lines. champion: the name of the
    other model's column."""
    head, *rows = _rows(decision, champion)
    if not rows:
        return []
    shown = [[shortened(printable(name), MAX_NAME), *cells] for name, *cells in rows]
    return aligned([head, *shown], "".join("r" if name in RIGHT or name == champion else "l" for name in head))


def markdown_table(decision: Decision, champion: str = "champion") -> str:
    """The lines of a decision as a GitHub table; empty without lines."""
    head, *rows = _rows(decision, champion)
    if not rows:
        return ""
    marks = {"yes": "✓", "NO": "✗"}
    lines = [head, ["---:" if name in RIGHT or name == champion else "---" for name in head]]
    lines += [[markdown_safe(name), *(marks.get(cell, cell) for cell in cells)] for name, *cells in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def markdown_safe(text: str) -> str:
    """`text` with escapes, as class names come from the data: it cannot end a cell, format, link or mention a user."""
    escaped = html.escape(printable(text), quote=False)
    return "".join(f"&#{ord(character)};" if character in "|`*[]~@\\$" else character for character in escaped)


def _rows(decision: Decision, champion: str) -> list[list[str]]:
    """The head and a row per line, without empty columns."""
    metrics = METRICS[network_of(decision.model).section]
    head = ["metric", champion, "candidate", "difference", "interval", "required", "met"]
    columns = list(zip(*(_cells(line, metrics.get(line.metric)) for line in decision.lines), strict=True))
    kept = [k for k, column in enumerate(columns) if any(column)]
    return [[head[k] for k in kept], *([columns[k][row] for k in kept] for row in range(len(decision.lines)))]


def _cells(line: Line, metric: Metric | None) -> tuple[str, ...]:
    digits = decimals(metric, line.candidate, line.champion or 0)
    return (
        line.metric,
        "" if line.champion is None else f"{line.champion:.{digits}f}",
        f"{line.candidate:.{digits}f}",
        "" if line.difference is None else f"{line.difference:+.{digits}f}",
        "" if line.low is None else f"{line.low:+.{digits}f} to {line.high:+.{digits}f}",
        line.rule,
        ("yes" if line.passed else "NO") if line.rule else "",
    )
