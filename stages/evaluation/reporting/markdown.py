"""Parts of the pages report.md, in Markdown. Only numbers in them come from the data; names of classes and files are in
the pictures and tables."""

from collections.abc import Mapping, Sequence

from stages.evaluation.reporting.metric import Metric


def shown(metrics: Sequence[Metric], values: Mapping[str, float]) -> list[Metric]:
    """The rows of a page: metrics that were measured on the test images, without those that are the reference of
    another one, in whose row they appear."""
    references = {metric.reference for metric in metrics}
    return [m for m in metrics if m.split == "test" and m.name in values and m.name not in references]


def number(values: Mapping[str, float], name: str, digits: int) -> str:
    """A value as text, or "" where it was not measured."""
    return f"{values[name]:.{digits}f}" if name in values else ""


def interval(values: Mapping[str, float], name: str, digits: int) -> str:
    """The bounds of a metric's 95% interval, or "" where it has none."""
    low, high = number(values, f"{name}_low", digits), number(values, f"{name}_high", digits)
    return f"{low} to {high}" if low and high else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table without a line break at its end."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)
