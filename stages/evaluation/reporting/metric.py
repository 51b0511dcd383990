"""A row of the table of metrics: what a figure is called, which way is better, and what it means."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

# How names end of figures that are the uncertainty of another one.
UNCERTAINTY = ("_low", "_high", "_error")
SECOND = "_second"  # how names end of figures that the second reference network gives


class Metric(NamedTuple):
    """A figure as metrics.json names it, below the section of its network."""

    name: str
    label: str  # what a person calls it
    digits: int  # decimals that are worth showing
    better: Literal["higher", "lower"] | None  # None: neither, or best at `reference`
    reference: str  # what real images or a perfect network have: the name of another metric, or a text; "" is none
    meaning: str
    split: Literal["test", "val"] = "test"  # the images that it is measured on


def rows_by_name(rows: Sequence[Metric]) -> dict[str, Metric]:
    """The rows by their names. Raises ValueError when a name is there twice."""
    found = {row.name: row for row in rows}
    if len(found) < len(rows):
        raise ValueError("a metric is there twice")
    return found


def without_variant(name: str) -> str:
    """The name of the metric that `name` is the uncertainty of, or the second reference's view of: fd for fd_second."""
    for ending in (*UNCERTAINTY, SECOND):
        name = name.removesuffix(ending)
    return name
