"""How a report writes a figure: its name and direction, and values, differences and intervals at readable lengths.

A metric is named as in metrics.json below its section, or is the recall of a class, which no table knows.
"""

from ops.project.networks import METRICS
from stages.evaluation.reporting.metric import SECOND, Metric, without_variant

ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}  # which way is better
CONTINUED = "... "  # how a label begins that goes on with that of the metric above it
DIGITS = 4  # decimals of the recall of a class


def label(section: str, metric: str) -> str:
    """What a person calls a metric, and which way is better."""
    row = _row(section, metric)
    return name_of(section, metric) + ARROWS[row.better if row else "higher"]


def name_of(section: str, metric: str) -> str:
    """What a person calls a metric."""
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


def figure(section: str, metric: str, value: float) -> str:
    """A value with the decimals that are worth showing."""
    return f"{value:.{_digits(section, metric)}f}"


def signed(section: str, metric: str, value: float) -> str:
    """A difference with its sign; what rounds to nothing has none."""
    text = f"{value:+.{_digits(section, metric)}f}"
    return text if float(text) else text[1:]


def interval(section: str, metric: str, ends: tuple[float, float] | None) -> str:
    """The ends of the interval of a difference in words; empty without one."""
    return " to ".join(signed(section, metric, end) for end in ends) if ends else ""


def _row(section: str, metric: str) -> Metric | None:
    return METRICS[section].get(without_variant(metric))


def _digits(section: str, metric: str) -> int:
    row = _row(section, metric)
    return row.digits if row else DIGITS
