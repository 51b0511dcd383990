"""What a search aims at: figures of the validation images, which the training stages write, and params as a cost."""

from dataclasses import dataclass
from typing import Literal

from ops.project import networks
from ops.project.networks import NETWORKS
from ops.search.space import is_param
from stages.evaluation.reporting.metric import without_variant
from stages.running.terminal import UserError

Direction = Literal["minimise", "maximise"]

BETTER: dict[str | None, Direction | None] = {"lower": "minimise", "higher": "maximise", None: None}
# What is measured on the validation images, and which way is better; None where that depends on what is wanted.
METRICS: dict[str, Direction | None] = {
    f"{section}.{metric.name}": BETTER[metric.better]
    for section, rows in networks.METRICS.items()
    for metric in rows.values()
    if metric.split == "val"
}


@dataclass(frozen=True)
class Objective:
    """A metric such as gan.val_fd, or a searched param, and where it should go."""

    name: str
    direction: Direction

    @property
    def stage(self) -> str | None:
        """The stage that measures it; None for a param."""
        return NETWORKS[self.name.split(".")[0]].train_stage if self.name in METRICS else None

    @property
    def comes_while_training(self) -> bool:
        """Whether the stage measures it again and again, so that a hopeless trial can be seen."""
        return self.name in METRICS and ".val_" in self.name


def parse_objective(name: str, direction: Direction) -> Objective:
    """Raises UserError for metrics of the test images, for unknown ones, and for a direction that makes them worse.

    A name that is no metric is taken for a param; `check_together` sees whether it is a searched one.
    """
    better = METRICS.get(name)
    if better and better != direction:
        way = "lower" if better == "minimise" else "higher"
        raise UserError(f"--{direction} {name}: this figure is better when it is {way}: --{better} {name}")
    if name in METRICS or is_param(name):
        return Objective(name, direction)
    if _is_test_metric(name):
        raise UserError(
            f"{name} is measured on the test images, which no choice may look at: a search would fit the networks to "
            f"them, and nothing would be left to say how good they are. Take one of {', '.join(METRICS)}"
        )
    raise UserError(f"{name} is neither a metric of the validation images ({', '.join(METRICS)}) nor a param")


def _is_test_metric(name: str) -> bool:
    section, _, metric = name.partition(".")
    row = networks.METRICS.get(section, {}).get(without_variant(metric))
    return row is not None and row.split == "test"
