"""A row of the table of metrics: names, the better direction, and the meaning of a metric."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

# Suffixes of values that are the uncertainty of a metric.
UNCERTAINTY = ("_low", "_high", "_error")
SECOND = "_second"  # suffix of metrics from the second reference network


class Metric(NamedTuple):
    """A metric, named as in metrics.json below the section of its network."""

    name: str
    label: str  # its name on pages
    digits: int  # decimals that are worth showing
    better: Literal["higher", "lower"] | None  # None: neither, or best at `reference`
    reference: str  # the value of real images or a perfect network: another metric's name, or a text; "": none
    meaning: str
    split: Literal["test", "val"] = "test"  # the images on which it is measured
    # Computes it from the arrays that the network's evaluation passes; None where that computes several at once.
    function: Callable[..., float] | None = None


def computed(rows: Sequence[Metric], *arrays: Any) -> dict[str, float]:
    """The values of the metrics that have a function, by name."""
    return {row.name: float(row.function(*arrays)) for row in rows if row.function}


def rows_by_name(rows: Sequence[Metric]) -> dict[str, Metric]:
    """The rows by their names. Raises ValueError when a name occurs twice."""
    found = {row.name: row for row in rows}
    if len(found) < len(rows):
        raise ValueError("a metric occurs twice")
    return found


def without_variant(name: str) -> str:
    """The metric's name without suffixes for its uncertainty and for the second reference: fd for fd_second."""
    for ending in (*UNCERTAINTY, SECOND):
        name = name.removesuffix(ending)
    return name
