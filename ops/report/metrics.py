"""Compares the metrics of this state's networks with those of the base or the champion.

Recorded values are subtracted only when both were measured on the same images and with the same reference network. When
the data or the reference changed, the present networks are compared with the champions as the gate measured both, or
else with the networks of the base, measured again: always on the present test images, with the present reference.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ops.pages.document import Block, Emphasis, Paragraph, Section, Strong, Table, Text
from ops.project.networks import CNN, GAN, NETWORKS
from ops.project.revisions import Commit, WorkTree, locked
from ops.promote.gate.decision import Decision
from ops.report.evaluations import recorded_metrics
from ops.report.formatting import formatted, interval, label, name_of, signed
from stages.evaluation.reporting.metric import SECOND, UNCERTAINTY
from stages.running.terminal import UserError
from stages.running.tracking.identity import sha256_of
from stages.serving.registry.network import Network

DATA = "data/ingest"
REFERENCE, SECOND_REFERENCE = "data/reference/model.keras", "data/reference/second.keras"
SHOWN_CLASSES = 8  # classes whose recall changed significantly


class Presentation(NamedTuple):
    """The presentation of a network's metrics."""

    headline: str  # the metric in the headline
    name: str  # the name of that metric there
    how_measured: str  # a note on how two networks are compared
    kept: Sequence[str] = ()  # metrics whose recorded values stay, because more images entered them


PRESENTATIONS = {
    CNN.section: Presentation("accuracy", "accuracy", "Intervals: paired bootstrap over the same test images."),
    GAN.section: Presentation(
        "fd",
        "generator FD",
        "Metrics with an interval: from as many generated as test images, of the same classes for both networks.",
        kept=("fd",),
    ),
}


class Row(NamedTuple):
    """A metric of two networks; `before` is None where there is no comparable value."""

    metric: str
    before: float | None
    after: float
    interval: tuple[float, float] | None = None  # 95%, of the difference

    @property
    def difference(self) -> float | None:
        return None if self.before is None else self.after - self.before


class Comparison(NamedTuple):
    """One network's metrics next to those of `opponent`, with notes on their origin."""

    network: Network
    opponent: str  # empty when there is none
    rows: list[Row]
    notes: list[str]
    against: str = ""  # a description of the opponent, unless its values are those recorded at base

    def row(self, metric: str) -> Row | None:
        return next((row for row in self.rows if row.metric == metric), None)


def compare(base: Commit, now: WorkTree, decisions: Sequence[Decision]) -> list[Comparison]:
    """Compares the networks of this state with the base. Imports TensorFlow only when it has to measure networks.

    decisions: the gate's decisions about them, if it was asked.
    """
    recorded, recorded_at_base = recorded_metrics(now), recorded_metrics(base)
    md5, md5_at_base = locked(now), locked(base)
    same_space = all(path in md5 and md5[path] == md5_at_base.get(path) for path in (DATA, REFERENCE))
    by_model = {decision.model: decision for decision in decisions}
    comparisons = []
    for section, values in recorded.items():
        network, before = NETWORKS[section], recorded_at_base.get(section, {})
        if md5.get(SECOND_REFERENCE) != md5_at_base.get(SECOND_REFERENCE):  # its metrics are not comparable
            before = {metric: value for metric, value in before.items() if not metric.endswith(SECOND)}
        if not md5_at_base:
            rows = [Row(metric, None, value) for metric, value in values.items()]
            comparisons.append(Comparison(network, "", rows, [f"There are no results at {base.name}."]))
        elif same_space:
            path = network.file.as_posix()
            same_network = md5.get(path) == md5_at_base.get(path)
            comparisons.append(_compare_recorded(network, base, values, before, same_network))
        else:
            comparisons.append(_compare_measured(network, base, values, before, by_model.get(network.model)))
    return comparisons


def _compare_recorded(
    network: Network, base: Commit, recorded: Mapping[str, float], before: Mapping[str, float], same_network: bool
) -> Comparison:
    """For the same images and reference: subtracts the recorded values, and measures again for the intervals."""
    rows = [Row(metric, before.get(metric), value) for metric, value in recorded.items()]
    if same_network:
        return Comparison(network, base.name, rows, [f"It is the same network as at {base.name}."])
    measured = _measure_against_base(network, base)
    if isinstance(measured, str):
        return Comparison(network, base.name, rows, [f"{measured}, so the differences have no intervals."])
    merged = _merged(rows, measured.rows, PRESENTATIONS[network.section].kept)
    return Comparison(network, base.name, merged, measured.notes)


def _compare_measured(
    network: Network,
    base: Commit,
    recorded: Mapping[str, float],
    before: Mapping[str, float],
    decision: Decision | None,
) -> Comparison:
    """For other images or another reference than at base: the base's recorded values are not subtracted."""
    metric = PRESENTATIONS[network.section].headline
    value_then = f" (such as {name_of(network.section, metric)} {before[metric]:.4g})" if metric in before else ""
    notes = [
        f"The data or the reference changed since {base.name}: its recorded metrics{value_then} are not comparable."
    ]
    rows = [Row(metric, None, value) for metric, value in recorded.items()]
    if decision and any(line.champion is not None for line in decision.lines):
        notes.append("The champion and this network were both measured on the present test images and reference.")
        merged = _merged(rows, _rows(decision))
        return Comparison(network, "champion", merged, notes, "the champion on the present images")
    if decision and not decision.lines:  # it was not compared: it is the champion
        return Comparison(network, "", rows, [*notes, f"{decision.reason}."])
    file = base.file(network.file.as_posix())
    if file and sha256_of(file) == sha256_of(network.file):
        return Comparison(network, "", rows, [*notes, f"It is the same network as at {base.name}."])
    measured = _measure_against_base(network, base)
    if isinstance(measured, str):
        return Comparison(network, "", rows, [*notes, f"{measured}, so there is nothing to compare with."])
    notes.append(f"The network of {base.name} was measured again on the present test images and reference.")
    against = "the base's network on the present images"
    return Comparison(network, base.name, _merged(rows, measured.rows), [*notes, *measured.notes], against)


def _merged(rows: list[Row], measured: list[Row], keep: Sequence[str] = ()) -> list[Row]:
    """`rows` with the measured ones in place of the recorded ones (except `keep`), followed by the classes whose recall
    changed significantly."""
    by_metric = {row.metric: row for row in measured if row.metric not in keep}
    merged = [by_metric.pop(row.metric, row) for row in rows]
    moved = [row for row in by_metric.values() if row.interval and (row.interval[0] > 0 or row.interval[1] < 0)]
    return merged + sorted(moved, key=lambda row: -abs(row.difference or 0))[:SHOWN_CLASSES]


# ---------------------------------------------------------------- measuring


class Measured(NamedTuple):
    rows: list[Row]
    notes: list[str]


def _measure_against_base(network: Network, base: Commit) -> Measured | str:
    """Measures the present network and that of the base on the present test images; the beginning of a sentence with
    the reason when that is impossible."""
    file, classes = base.file(network.file.as_posix()), base.file(f"{DATA}/classes.json")
    if file is None or classes is None:
        return f"The network of {base.name} is neither in DVC's cache nor in its remote"
    from ops.project.registry import Files
    from ops.promote.contenders import CONTENDERS

    others = Files(file, json.loads(classes.read_text(encoding="utf-8")))
    try:
        decision = CONTENDERS[network.section]().compare_with(others)
    except (ValueError, TypeError, UserError) as error:  # saved by another Keras version, or with unknown layers
        return f"The network of {base.name} could not be measured ({str(error).splitlines()[0]})"
    return Measured(_rows(decision), [PRESENTATIONS[network.section].how_measured])


def _rows(decision: Decision) -> list[Row]:
    return [
        Row(
            line.metric,
            line.champion,
            line.candidate,
            None if line.low is None or line.high is None else (line.low, line.high),
        )
        for line in decision.lines
    ]


# ---------------------------------------------------------------- the section


def section(comparisons: list[Comparison]) -> Section | None:
    """The section of the report; None without metrics."""
    blocks: list[Block] = []
    for comparison in comparisons:
        blocks.append(Paragraph(Strong(comparison.network.title)))
        blocks.append(_table(comparison))
        blocks += [Paragraph(Emphasis(note)) for note in comparison.notes]
    return Section("Metrics", blocks) if blocks else None


def _table(comparison: Comparison) -> Table:
    section = comparison.network.section
    compared = any(row.before is not None and row.before != row.after for row in comparison.rows)
    with_intervals = any(row.interval for row in comparison.rows)
    head = ["metric", *([comparison.opponent, "this", "difference"] if compared else ["this"])]
    head += ["95% interval"] if with_intervals else []
    rows: list[list[Text]] = []
    for row in comparison.rows:
        if row.metric.endswith(UNCERTAINTY):  # of one value, not of a difference
            continue
        cells: list[Text] = [label(section, row.metric)]
        if compared:
            cells.append("" if row.before is None else formatted(section, row.metric, row.before))
        cells.append(formatted(section, row.metric, row.after))
        if compared:
            cells.append("" if row.difference is None else signed(section, row.metric, row.difference))
        if with_intervals:
            cells.append(interval(section, row.metric, row.interval))
        rows.append(cells)
    return Table(head, rows, "l" + "r" * (len(head) - 1))


def sentence(comparisons: list[Comparison]) -> str:
    """For the headline: the change of each network's main metric."""
    return "; ".join(filter(None, map(_sentence, comparisons)))


def _sentence(comparison: Comparison) -> str:
    section = comparison.network.section
    metric, name = PRESENTATIONS[section].headline, PRESENTATIONS[section].name
    row = comparison.row(metric)
    if row is None:
        return ""
    after = formatted(section, metric, row.after)
    if row.before is None or row.difference is None:
        return f"{name} {after}"
    if row.before == row.after and not row.interval:
        return f"{name} {after}, unchanged"
    ends = f", 95% interval {interval(section, metric, row.interval)}" if row.interval else ""
    against = f", against {comparison.against}" if comparison.against else ""
    difference = signed(section, metric, row.difference)
    return f"{name} {formatted(section, metric, row.before)} -> {after} ({difference}{ends}{against})"
