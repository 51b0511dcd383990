"""Parts of the pages report.md, in Markdown. Nothing in them comes from the data but numbers: names of classes and
files are in the pictures and tables."""

from collections.abc import Mapping, Sequence

from stages.evaluation.reporting.metric import Metric


def shown(metrics: Sequence[Metric], figures: Mapping[str, float]) -> list[Metric]:
    """The rows of a page: metrics of the test images that were measured, without those that stand beside another one as
    its reference."""
    beside = {metric.reference for metric in metrics}
    return [m for m in metrics if m.split == "test" and m.name in figures and m.name not in beside]


def number(figures: Mapping[str, float], name: str, digits: int) -> str:
    """A figure, or nothing where it was not measured."""
    return f"{figures[name]:.{digits}f}" if name in figures else ""


def interval(figures: Mapping[str, float], name: str, digits: int) -> str:
    """The ends of a figure's 95% interval; nothing where it has none."""
    low, high = number(figures, f"{name}_low", digits), number(figures, f"{name}_high", digits)
    return f"{low} to {high}" if low and high else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table without a line break at its end."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)
