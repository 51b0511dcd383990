"""What was weighed and what became of it, as tables for the terminal and in Markdown for GitHub."""

import html
from collections.abc import Sequence
from textwrap import wrap

from ops.pages.terminal import aligned
from ops.project.networks import METRICS, network_of
from ops.promote.gate.decision import Decision, Line, decimals
from ops.promote.weighing import Weighed
from stages.drawing.text import printable, shortened
from stages.evaluation.reporting.metric import Metric

RIGHT = ("candidate", "difference")  # columns of numbers, beside that of the champion
LONGEST_NAME = 20  # characters of a metric's name in the terminal
WIDTH = 100  # of the terminal


def terminal_text(weighed: Weighed, done: bool) -> str:
    """A contender's tables and outcome for the terminal; done: whether it was promoted or would be."""
    blocks = [
        [weighed.title],
        [f"  {line}" for line in table(weighed.decision)],
        wrap(_outcome(weighed, done), WIDTH),
    ]
    previous = weighed.previous
    if isinstance(previous, str):
        blocks[-1] += wrap(previous, WIDTH)
    else:
        blocks.append([f"Against the previous candidate, version {previous.version} (shown, decides nothing):"])
        blocks.append([f"  {line}" for line in table(previous.decision, "previous")])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def markdown(all_weighed: Sequence[Weighed], done: bool) -> str:
    """The same of all contenders for a comment on GitHub."""
    parts = ["## Promotion"]
    for weighed in all_weighed:
        parts += [f"### {weighed.title}", f"**{markdown_safe(_outcome(weighed, done))}**"]
        parts.append(markdown_table(weighed.decision))
        previous = weighed.previous
        if isinstance(previous, str):
            parts.append(markdown_safe(previous))
        else:
            summary = f"Against the previous candidate, version {previous.version} (shown, decides nothing)"
            inner = markdown_table(previous.decision, "previous")
            parts.append(f"<details><summary>{summary}</summary>\n\n{inner}\n</details>")
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _outcome(weighed: Weighed, done: bool) -> str:
    if not weighed.measured:
        return f"Nothing to do: {weighed.decision.reason}."
    if not weighed.decision.promote:
        return f"{'Not promoted' if done else 'Would not be promoted'}: {weighed.decision.reason}."
    return f"{'Promoted' if done else 'Would be promoted'}: {weighed.decision.reason}."


def table(decision: Decision, champion: str = "champion") -> list[str]:
    """The lines of a decision as aligned text, at most 100 columns wide; empty where there is nothing to show.
    `champion` names the column of the other model."""
    head, *rows = _rows(decision, champion)
    if not rows:
        return []
    shown = [[shortened(printable(name), LONGEST_NAME), *cells] for name, *cells in rows]
    return aligned([head, *shown], "".join("r" if name in RIGHT or name == champion else "l" for name in head))


def markdown_table(decision: Decision, champion: str = "champion") -> str:
    """The same as a GitHub table."""
    head, *rows = _rows(decision, champion)
    if not rows:
        return ""
    marks = {"yes": "✓", "NO": "✗"}
    lines = [head, ["---:" if name in RIGHT or name == champion else "---" for name in head]]
    lines += [[markdown_safe(name), *(marks.get(cell, cell) for cell in cells)] for name, *cells in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def markdown_safe(text: str) -> str:
    """Names of classes come from the data: nothing in them may end a cell, mark up, link or call somebody."""
    escaped = html.escape(printable(text), quote=False)
    return "".join(f"&#{ord(character)};" if character in "|`*[]~@\\$" else character for character in escaped)


def _rows(decision: Decision, champion: str) -> list[list[str]]:
    """The head and a row per line, without the columns in which nothing stands."""
    metrics = METRICS[network_of(decision.model).section]
    head = ["metric", champion, "candidate", "difference", "interval", "asked for", "met"]
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
