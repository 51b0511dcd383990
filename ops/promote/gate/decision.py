"""The gate's decision on a candidate: the compared metrics, the rules that they meet or miss, and the verdict."""

from collections.abc import Mapping
from typing import NamedTuple

from ops.project.networks import METRICS
from ops.promote.gate.policy import ClassifierPolicy, GeneratorPolicy
from stages.evaluation.reporting.metric import Metric
from stages.serving.registry.network import Network


class Line(NamedTuple):
    """A row of the table."""

    metric: str  # "accuracy", "recall of cat", "kid", ...
    champion: float | None  # None for a first model
    candidate: float
    difference: float | None  # candidate - champion
    low: float | None  # interval of the difference at the policy's level, 95% as shipped
    high: float | None
    rule: str  # the policy's requirement, as text; "" for a line without one
    passed: bool


class Decision(NamedTuple):
    """The verdict on a candidate, and its reason."""

    model: str  # the registered model: visionloop-cnn
    promote: bool
    reason: str  # one sentence for users
    lines: list[Line]

    def verdict(self) -> str:
        """The text in front of the reason."""
        return "Promote:" if self.promote else "Do not promote:"


def decimals(metric: Metric | None, *values: float) -> int:
    """The number of decimals to show: those of the metric, but at least 4 because differences are small, and 5 for very
    small values, such as kernel distances. metric: None for one that is in no table, such as the recall of a class."""
    return max(metric.digits if metric else 0, 5 if 0 < max(map(abs, values)) < 0.01 else 4)


class Judge:
    """Collects the lines of a decision and the objections to the candidate."""

    def __init__(self, network: Network, policy: ClassifierPolicy | GeneratorPolicy, first: bool):
        """first: there is no champion, so only the floors apply."""
        self.network, self.policy, self.first = network, policy, first
        self.metrics: Mapping[str, Metric] = METRICS[network.section]
        self.guards = {str(name): margin for name, margin in policy.guards.items()}
        self.floors = {str(name): minimum for name, minimum in policy.floors.items()}
        self.percent = f"{100 * (1 - 2 * policy.level):g}%"
        self.lines: list[Line] = []
        self.objections: list[str] = []
        self.gain = ""

    def metric(
        self,
        name: str,
        champion: float | None,
        candidate: float,
        interval: tuple[float, float] | None = None,
        p: float | None = None,
    ) -> None:
        """Adds a metric. interval: of the difference. p: for the main metric, a p-value that has to reach the level as
        well."""
        rules, objections = [], []  # NaN fails every comparison below
        difference = None if champion is None else candidate - champion
        low, high = interval or (None, None)
        if low is not None and high is not None:
            change = self._change(name, candidate, champion, low, high) + ("" if p is None else f", p {p:.3f}")
            lower_is_better = self.metrics[name].better == "lower"
            worst = high if lower_is_better else -low  # the possible loss; below 0 when it is certainly better
            side, sign = ("below", 1) if lower_is_better else ("above", -1)
            if name == self.policy.main:
                rules.append(f"{side} 0" if p is None else f"{side} 0, p ≤ {self.policy.level:g}")
                if worst < 0 and (p is None or p <= self.policy.level):
                    self.gain = f"{name} is better ({change})"
                else:
                    objections.append(f"{name} is not shown to be better ({change})")
            if name in self.guards:
                rules.append(f"{side} {sign * self.guards[name]:+g}")
                if not worst <= self.guards[name]:
                    objections.append(f"{name} may be worse by more than {self.guards[name]:g} ({change})")
        if name in self.floors:
            rules.append(f"≥ {self.floors[name]:g}")
            if not candidate >= self.floors[name]:
                objections.append(f"{name} {candidate:.4f} is below the floor of {self.floors[name]:g}")
        self.objections += objections
        self.lines.append(Line(name, champion, candidate, difference, low, high, ", ".join(rules), not objections))

    def recall(
        self, class_name: str, champion: float, candidate: float, interval: tuple[float, float], margin: float | None
    ) -> None:
        """Adds the recall of a class, which fails when it falls significantly and by more than the margin."""
        name, difference = f"recall of {class_name}", candidate - champion
        failed = margin is not None and difference < -margin and interval[1] < 0
        if failed:
            change = self._change(name, candidate, champion, *interval)
            self.objections.append(f"{name} falls by more than {margin:g} ({change})")
        rule = "" if margin is None else f"≥ {-margin:+g}, or chance"
        self.lines.append(Line(name, champion, candidate, difference, *interval, rule, not failed))

    def _change(self, name: str, candidate: float, champion: float | None, low: float, high: float) -> str:
        form = f"+.{decimals(self.metrics.get(name), candidate, champion or 0)}f"
        return f"{candidate - (champion or 0):{form}}, {self.percent} interval {low:{form}} to {high:{form}}"

    def decision(self) -> Decision:
        if self.objections:
            reason = "; ".join(self.objections)
        elif self.first:
            reason = "it is the first model, and above every floor"
        else:
            reason = f"{self.gain}, and no guarded metric is worse than the policy allows"
        return Decision(self.network.model, not self.objections, reason, self.lines)
