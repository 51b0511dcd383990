"""How good the networks of this state are, beside those of the base or the champion.

Recorded figures are subtracted only when the same images and the same reference network stand behind both. When the
data or the reference changed, today's networks are compared with the champion's as the gate measured both, or else with
those of the base, measured again: always on today's test images and in today's reference.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ops import gate
from ops.report_page import Block, Emphasis, Paragraph, Section, Strong, Table, Text
from ops.revisions import Commit, State, WorkTree, locked
from stages.lib.terminal import UserError
from stages.lib.tracking import sha256_of

DATA, METRICS = "data/ingest", "data/evaluate/metrics.json"
REFERENCE, SECOND = "data/reference/model.keras", "data/reference/second.keras"
NETWORKS = {"cnn": "data/train_cnn/model.keras", "gan": "data/train_gan/generator.keras"}
TITLES = {"cnn": "Classifier", "gan": "Generator"}
REGISTERED = {"cnn": gate.CNN, "gan": gate.GAN}
VARIANTS = ("_calibrated", "_pixels", "_second")  # how names end of a figure that is better in the same direction
# Figures that are better when they are lower, beside those that the gate knows, and those that are neither better nor
# worse: of real images, or best in the middle.
LOWER_IS_BETTER = {*gate.LOWER_IS_BETTER, "aurc", "brier", "fd_class_mean", "fd_infinity", "near_copies"}
NEITHER = {
    *("fd_floor", "fd_infinity_floor", "fd_class_floor", "fd_classes", "label_accuracy_real", "coverage_expected"),
    *("density", "memorisation_ratio", "temperature", "suspected_test_labels", "suspected_train_labels"),
}
ERRORS = ("_low", "_high", "_error")  # how names end of what is the uncertainty of one figure, not of a difference
SHOWN_CLASSES = 8  # whose recall moved by more than chance


class Row(NamedTuple):
    """A figure of two networks; None where there is none, or none that could be subtracted."""

    metric: str
    before: float | None
    after: float
    interval: tuple[float, float] | None = None  # 95%, of the difference

    @property
    def difference(self) -> float | None:
        return None if self.before is None else self.after - self.before


class Comparison(NamedTuple):
    """What is known of one network: today's figures beside those of `opponent`, and how they were come by."""

    model: str  # cnn or gan
    opponent: str  # empty when there is none
    rows: list[Row]
    notes: list[str]
    against: str = ""  # where the other figures are not those recorded at base: whose they are, in words

    def row(self, metric: str) -> Row | None:
        return next((row for row in self.rows if row.metric == metric), None)


def compare(base: Commit, now: WorkTree, decisions: Sequence[gate.Decision]) -> list[Comparison]:
    """Compares the networks of this state. TensorFlow is imported only when something has to be measured.

    decisions: what the gate says of them, where it was asked.
    """
    recorded, recorded_at_base = _metrics(now), _metrics(base)
    md5, md5_at_base = locked(now), locked(base)
    same_space = all(path in md5 and md5[path] == md5_at_base.get(path) for path in (DATA, REFERENCE))
    by_model = {decision.model: decision for decision in decisions}
    comparisons = []
    for model, path in NETWORKS.items():
        before = recorded_at_base.get(model, {})
        if md5.get(SECOND) != md5_at_base.get(SECOND):  # nothing that it measured is subtracted
            before = {metric: value for metric, value in before.items() if not metric.endswith("_second")}
        if model not in recorded:
            continue
        if not md5_at_base:
            rows = [Row(metric, None, value) for metric, value in recorded[model].items()]
            comparisons.append(Comparison(model, "", rows, [f"There are no results at {base.name}."]))
        elif same_space:
            same_network = md5.get(path) == md5_at_base.get(path)
            comparisons.append(_compare_recorded(model, base, recorded[model], before, same_network))
        else:
            decision = by_model.get(REGISTERED[model])
            comparisons.append(_compare_measured(model, base, recorded[model], before, decision))
    return comparisons


def _compare_recorded(
    model: str, base: Commit, recorded: Mapping[str, float], before: Mapping[str, float], same_network: bool
) -> Comparison:
    """The same images and reference behind both: figures are subtracted, and measured again for their intervals."""
    rows = [Row(metric, before.get(metric), value) for metric, value in recorded.items()]
    if same_network:
        return Comparison(model, base.name, rows, [f"It is the same network as at {base.name}."])
    measured = _measure_against_base(model, base)
    if isinstance(measured, str):
        return Comparison(model, base.name, rows, [f"{measured}, so the differences have no intervals."])
    return Comparison(model, base.name, _merged(rows, measured.rows, keep=("fd",)), measured.notes)


def _compare_measured(
    model: str,
    base: Commit,
    recorded: Mapping[str, float],
    before: Mapping[str, float],
    decision: gate.Decision | None,
) -> Comparison:
    """Other images or another reference than at base: what it recorded is not subtracted."""
    metric = "accuracy" if model == "cnn" else "fd"
    there = f" (there, {name_of(metric)} was {before[metric]:.4g})" if metric in before else ""
    notes = [f"The data or the reference changed since {base.name}: what was recorded then{there} is not subtracted."]
    rows = [Row(metric, None, value) for metric, value in recorded.items()]
    if decision and any(line.champion is not None for line in decision.lines):
        notes.append("The champion was measured on today's test images and in today's reference, as was this network.")
        return Comparison(model, "champion", _merged(rows, _rows(decision)), notes, "the champion on today's images")
    if decision and not decision.lines:  # it was not weighed: it is the champion
        return Comparison(model, "", rows, [*notes, f"{decision.reason}."])
    network = base.file(NETWORKS[model])
    if network and sha256_of(network) == sha256_of(Path(NETWORKS[model])):
        return Comparison(model, "", rows, [*notes, f"It is the same network as at {base.name}."])
    measured = _measure_against_base(model, base)
    if isinstance(measured, str):
        return Comparison(model, "", rows, [*notes, f"{measured}, so there is nothing to compare with."])
    notes.append(f"The network of {base.name} was measured again, on today's test images and in today's reference.")
    whose = "the base's on today's images"
    return Comparison(model, base.name, _merged(rows, measured.rows), [*notes, *measured.notes], whose)


def _merged(rows: list[Row], measured: list[Row], keep: Sequence[str] = ()) -> list[Row]:
    """The rows with those that were measured in their places (but `keep`), and behind them the classes whose recall
    moved by more than chance."""
    by_metric = {row.metric: row for row in measured if row.metric not in keep}
    merged = [by_metric.pop(row.metric, row) for row in rows]
    moved = [row for row in by_metric.values() if row.interval and (row.interval[0] > 0 or row.interval[1] < 0)]
    return merged + sorted(moved, key=lambda row: -abs(row.difference or 0))[:SHOWN_CLASSES]


# ---------------------------------------------------------------- measuring


class Measured(NamedTuple):
    rows: list[Row]
    notes: list[str]


def _measure_against_base(model: str, base: Commit) -> Measured | str:
    """Today's network and that of the base on today's test images, or the beginning of a sentence that says why not."""
    network, classes = base.file(NETWORKS[model]), base.file(f"{DATA}/classes.json")
    if network is None or classes is None:
        return f"The network of {base.name} is neither in DVC's cache nor in its remote"
    from ops.promote import CONTENDERS
    from ops.registry import Files

    try:
        decision = CONTENDERS[model]().against(Files(network, json.loads(classes.read_text(encoding="utf-8"))))
    except (ValueError, TypeError, UserError) as error:  # of another Keras, or with layers that this one does not know
        return f"The network of {base.name} could not be measured ({str(error).splitlines()[0]})"
    how = {
        "cnn": "Intervals: paired bootstrap over the same test images.",
        "gan": "Figures with an interval: of as many generated as test images; both were asked for the same classes.",
    }
    return Measured(_rows(decision), [how[model]])


def _rows(decision: gate.Decision) -> list[Row]:
    return [
        Row(
            line.metric,
            line.champion,
            line.candidate,
            None if line.low is None or line.high is None else (line.low, line.high),
        )
        for line in decision.lines
    ]


def _metrics(state: State) -> dict[str, dict[str, float]]:
    return json.loads(state.text(METRICS) or "{}")


# ---------------------------------------------------------------- the section


def section(comparisons: list[Comparison]) -> Section | None:
    """The section of the report; None without any figures."""
    blocks: list[Block] = []
    for comparison in comparisons:
        blocks.append(Paragraph(Strong(TITLES[comparison.model])))
        blocks.append(_table(comparison))
        blocks += [Paragraph(Emphasis(note)) for note in comparison.notes]
    return Section("Metrics", blocks) if blocks else None


def _table(comparison: Comparison) -> Table:
    compared = any(row.before is not None and row.before != row.after for row in comparison.rows)
    with_intervals = any(row.interval for row in comparison.rows)
    head = ["figure", *([comparison.opponent, "this", "difference"] if compared else ["this"])]
    head += ["95% interval"] if with_intervals else []
    rows: list[list[Text]] = []
    for row in comparison.rows:
        if row.metric.endswith(ERRORS):
            continue
        cells: list[Text] = [label(row.metric)]
        if compared:
            cells.append("" if row.before is None else figure(row.before))
        cells.append(figure(row.after))
        if compared:
            cells.append("" if row.difference is None else signed(row.difference))
        if with_intervals:
            cells.append(interval(row.interval))
        rows.append(cells)
    return Table(head, rows, "l" + "r" * (len(head) - 1))


def label(metric: str) -> str:
    """What a person calls a figure, and which way is better."""
    plain = metric
    for ending in VARIANTS:
        plain = plain.removesuffix(ending)
    arrow = "" if plain in NEITHER else " ↓" if plain in LOWER_IS_BETTER else " ↑"
    return name_of(metric) + arrow


def name_of(metric: str) -> str:
    """What a person calls a figure."""
    known = {"nll": "NLL", "ece": "ECE", "fd": "FD", "fd_floor": "FD of real images", "kid": "KID", "cas": "CAS"}
    known |= {"macro_f1": "macro F1", "label_accuracy_real": "label accuracy of real images", "aurc": "AURC"}
    known |= {"fd_infinity": "FD at infinity", "fd_infinity_floor": "FD at infinity of real images"}
    known |= {"fd_class_mean": "FD by class", "fd_class_floor": "FD by class of real images"}
    if metric.endswith("_second"):
        return f"{name_of(metric.removesuffix('_second'))}, second ruler"
    return known.get(metric, metric.replace("_", " ") if metric.isidentifier() else metric)


def figure(value: float) -> str:
    """A value at a readable length."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def signed(value: float) -> str:
    """A difference with its sign; what rounds to nothing has none."""
    text = f"{value:+.4f}" if abs(value) < 10 else f"{value:+.2f}"
    return text if float(text) else text[1:]


def interval(ends: tuple[float, float] | None) -> str:
    """The ends of an interval in words; empty without one."""
    return f"{signed(ends[0])} to {signed(ends[1])}" if ends else ""


def sentence(comparisons: list[Comparison]) -> str:
    """For the headline: what became of accuracy and FD."""
    parts = []
    for comparison in comparisons:
        metric, name = ("accuracy", "accuracy") if comparison.model == "cnn" else ("fd", "generator FD")
        row = comparison.row(metric)
        if row is None:
            continue
        if row.before is None:
            parts.append(f"{name} {figure(row.after)}")
        elif row.before == row.after and not row.interval:
            parts.append(f"{name} {figure(row.after)} as before")
        else:
            known = f", 95% interval {interval(row.interval)}" if row.interval else ""
            against = f", against {comparison.against}" if comparison.against else ""
            change = f"{figure(row.before)} -> {figure(row.after)}"
            parts.append(f"{name} {change} ({signed(row.after - row.before)}{known}{against})")
    return "; ".join(parts)
