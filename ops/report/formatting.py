"""Formats metrics for reports: name and direction, and values, differences and intervals with suitable digits.

A metric is named as in metrics.json below its section, or is the recall of a class, which is in no table.
"""

from ops.project.networks import METRICS
from stages.evaluation.reporting.metric import SECOND, Metric, without_variant

ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}  # which way is better
CONTINUED = "... "  # at the start of a label that continues the label of the metric above it
DIGITS = 4  # decimals of the recall of a class


def label(section: str, metric: str) -> str:
    """The displayed name of a metric, with an arrow for the better direction."""
    row = _row(section, metric)
    return name_of(section, metric) + ARROWS[row.better if row else "higher"]


def name_of(section: str, metric: str) -> str:
    """The displayed name of a metric."""
    if metric.endswith(SECOND):
        return f"{name_of(section, metric.removesuffix(SECOND))}, second reference"
    row = _row(section, metric)
    if row is None:
        return metric
    if not row.label.startswith(CONTINUED):
        return row.label
    rows = list(METRICS[section].values())
    above = next(each.label for each in reversed(rows[: rows.index(row)]) if not each.label.startswith(CONTINUED))
    return f"{above} {row.label.removeprefix(CONTINUED)}"


def formatted(section: str, metric: str, value: float) -> str:
    """A value with the metric's number of decimals."""
    return f"{value:.{_digits(section, metric)}f}"


def signed(section: str, metric: str, value: float) -> str:
    """A difference with its sign; without a sign when it rounds to zero."""
    text = f"{value:+.{_digits(section, metric)}f}"
    return text if float(text) else text[1:]


def interval(section: str, metric: str, ends: tuple[float, float] | None) -> str:
    """The interval of a difference, as "LOW to HIGH"; empty without one."""
    return " to ".join(signed(section, metric, end) for end in ends) if ends else ""


def _row(section: str, metric: str) -> Metric | None:
    return METRICS[section].get(without_variant(metric))


def _digits(section: str, metric: str) -> int:
    row = _row(section, metric)
    return row.digits if row else DIGITS
