"""The metrics that a search may optimise. Imports no slow package, as the command line names them."""

from typing import Literal

from ops.project import networks

Direction = Literal["minimise", "maximise"]

BETTER: dict[str | None, Direction | None] = {"lower": "minimise", "higher": "maximise", None: None}
# The metrics of the validation images, and the better direction; None where that depends on the purpose.
METRICS: dict[str, Direction | None] = {
    f"{section}.{metric.name}": BETTER[metric.better]
    for section, rows in networks.METRICS.items()
    for metric in rows.values()
    if metric.split == "val"
}
