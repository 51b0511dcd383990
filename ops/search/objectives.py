"""Objectives of a search: metrics of the validation images, which the training stages write, and params as a cost."""

from dataclasses import dataclass

from ops.project import networks
from ops.project.networks import NETWORKS
from ops.search.metrics import METRICS, Direction
from ops.search.space import is_param
from stages.evaluation.reporting.metric import without_variant
from stages.running.terminal import UserError


@dataclass(frozen=True)
class Objective:
    """A metric such as gan.val_fd, or a searched param, with its direction."""

    name: str
    direction: Direction

    @property
    def stage(self) -> str | None:
        """The stage that measures it; None for a param."""
        return NETWORKS[self.name.split(".")[0]].train_stage if self.name in METRICS else None

    @property
    def measured_during_training(self) -> bool:
        """Whether the stage measures it repeatedly, so that a hopeless trial can be pruned."""
        return self.name in METRICS and ".val_" in self.name


def parse_objective(name: str, direction: Direction) -> Objective:
    """Raises UserError for metrics of the test images, for unknown ones, and for a direction that makes them worse.

    Any other name has to be a param; `check_together` checks that the search varies it.
    """
    better = METRICS.get(name)
    if better and better != direction:
        way = "lower" if better == "minimise" else "higher"
        raise UserError(f"--{direction} {name}: this metric is better when it is {way}: use --{better} {name}")
    if name in METRICS or is_param(name):
        return Objective(name, direction)
    if _is_test_metric(name):
        raise UserError(
            f"{name} is measured on the test images, which must not guide a choice: a search would fit the networks to "
            f"them, and no images would be left to measure the result. Use one of {', '.join(METRICS)}"
        )
    raise UserError(f"{name} is neither a metric of the validation images ({', '.join(METRICS)}) nor a param")


def _is_test_metric(name: str) -> bool:
    section, _, metric = name.partition(".")
    row = networks.METRICS.get(section, {}).get(without_variant(metric))
    return row is not None and row.split == "test"
