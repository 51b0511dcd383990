"""Comparison of this state of the project with a commit, as Markdown, as a page and in three lines."""

import json
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from dvc.exceptions import DvcException

from ops.pages.document import (
    Block,
    Code,
    Document,
    Emphasis,
    Paragraph,
    Picture,
    Piece,
    Section,
    Strong,
    Table,
    Text,
)
from ops.pages.html import page
from ops.pages.markdown import markdown
from ops.pages.text import one_line
from ops.project import credentials
from ops.project.networks import CNN, GAN, NETWORKS, network_of
from ops.project.pipeline import stale_stages
from ops.project.revisions import Commit, State, WorkTree, locked, resolve_base, this_commit
from ops.promote.gate.decision import Decision
from ops.report import data as report_data
from ops.report import failures as report_failures
from ops.report import metrics as report_metrics
from ops.report import mlflow_links as report_mlflow
from ops.report import params as report_params
from ops.report import pictures as report_pictures
from ops.report.evaluations import evaluation_file
from ops.report.formatting import formatted, interval, label, signed
from stages.core.outputs import atomic_folder
from stages.running.terminal import UserError, say

MARKER = "<!-- visionloop-report -->"  # identifies the comment of an earlier report


class Summary(NamedTuple):
    """Three lines for the terminal."""

    changed: str
    effect: str
    gate: str


def build_report(
    commit: str, folder: Path, *, with_gate: bool = True, failed_stage: str | None = None, log: Path | None = None
) -> tuple[Document, Summary]:
    """The comparison with a commit; writes its pictures to `folder`.

    with_gate: whether to ask MLflow for the champion, runs and versions. failed_stage, log: of a pipeline that failed.
    Raises UserError when the log cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="report-base-") as copies:
        base, now = Commit(commit, Path(copies)), WorkTree()
        stale, unknown = _stale()
        failure = report_failures.find_failure(stale, failed_stage, log, folder)
        evaluated = not (stale or unknown or failure) and any(network.metrics.exists() for network in NETWORKS.values())
        inputs = report_params.changed_inputs(base, now)
        data_section, data_sentence = _data(base, now, stale, folder, with_rejected=not failure)
        decisions, gate_section, gate_line = _forecast() if evaluated and with_gate else ([], None, "skipped")
        comparisons = report_metrics.compare(base, now, decisions) if evaluated else []
        sections = [
            failure.section if failure else None,
            Section("DVC cannot determine the state", [Paragraph(Emphasis(unknown))]) if unknown else None,
            report_metrics.section(comparisons),
            gate_section,
            report_params.section(inputs),
            data_section,
            _pictures(base, now, folder) if evaluated else None,
            report_mlflow.section() if evaluated and with_gate else None,
        ]
    changed = "; ".join(filter(None, [data_sentence, report_params.sentence(inputs, with_data=not data_sentence)])) or (
        "nothing was changed" if locked(base) else "the first results"
    )
    effect = failure.sentence if failure else unknown or report_metrics.sentence(comparisons) or "no results here"
    command = shlex.join(["uv", "run", "visionloop", "report", "--base", commit[:12]])
    footer: list[Piece] = [f"Base {commit[:7]}, this: {this_commit()}. Made by ", Code(command)]
    headline: list[Piece] = [Strong(changed), f"; {effect}"]
    document = Document("visionloop report", "Report", headline, [each for each in sections if each], footer)
    return document, Summary(changed, effect, gate_line)


def _stale() -> tuple[list[str], str]:
    """The stages that DVC would run, or an error message when it cannot determine them."""
    try:
        return stale_stages(), ""
    except (UserError, DvcException) as error:  # such as an invalid dvc.yaml, or params that name missing data
        return [], str(error)


def _data(
    base: Commit, now: WorkTree, stale: list[str], folder: Path, with_rejected: bool
) -> tuple[Section | None, str]:
    """The section on the images, and its part of the headline."""
    path = now.file(report_data.MANIFEST)
    if path is None or "ingest" in stale:  # the manifest there belongs to another state
        return None, ""
    if not locked(base):
        return None, ""
    before = base.file(report_data.MANIFEST)
    if before is None:
        note = f"The images of {base.name} are not available: neither DVC's cache nor its remote has their manifest."
        return Section("Data", [Paragraph(Emphasis(note))]), ""
    manifest = report_data.read_manifest(path)
    found = report_data.changes(report_data.read_manifest(before), manifest)
    sentence = found.sentence()
    return report_data.section(found, manifest, folder, with_rejected), f"data: {sentence}" if sentence else ""


def _forecast() -> tuple[list[Decision], Section, str]:
    """The gate's decisions, the section that shows them, and a line for the terminal."""
    from ops.promote.comparison import forecast

    try:
        decisions = forecast()
    except UserError as error:
        return [], Section("Gate", [Paragraph(Emphasis(str(error)))]), str(error)
    blocks: list[Block] = []
    for decision in decisions:
        blocks.append(Paragraph([Strong(f"{decision.model} {_verdict(decision)}"), f": {decision.reason}."]))
        if any(line.rule for line in decision.lines):
            blocks.append(_lines_table(decision))
    return decisions, Section("Gate", blocks), "; ".join(f"{each.model} {_verdict(each)}" for each in decisions)


def _verdict(decision: Decision) -> str:
    if not decision.lines:
        return "was not compared"
    return "would be promoted" if decision.promote else "would not be promoted"


def _lines_table(decision: Decision) -> Table:
    """The policy's rules and whether they hold; without a champion to compare with, only the floors."""
    rows: list[list[Text]] = []
    section = network_of(decision.model).section
    lines = [line for line in decision.lines if line.rule]
    first = all(line.champion is None for line in lines)
    for line in lines:
        ends = None if line.low is None or line.high is None else (line.low, line.high)
        champion = "" if line.champion is None else formatted(section, line.metric, line.champion)
        difference = "" if line.difference is None else signed(section, line.metric, line.difference)
        candidate = formatted(section, line.metric, line.candidate)
        cells = [champion, candidate, difference, interval(section, line.metric, ends)]
        rule = f"{'✓' if line.passed else '✗'} {line.rule}"
        rows.append([label(section, line.metric), *([candidate] if first else cells), rule])
    middle = ["candidate"] if first else ["champion", "candidate", "difference", "95% interval"]
    head = ("metric", *middle, "required")
    return Table(head, rows, "l" + "r" * len(middle) + "l", folded="the gate's rules")


def _pictures(base: Commit, now: WorkTree, folder: Path) -> Section | None:
    """Confusion matrices and samples, base left and this right; only those of this where the base has none."""
    blocks: list[Block] = []
    names = (base.name, now.name)
    tables = [_predictions(state) for state in (base, now)]
    if tables[0] and tables[1]:
        report_pictures.confusion_pair(tables[0], tables[1], names, folder / "confusion.png")
        blocks.append(Picture("confusion.png", f"Confusion matrices: {base.name} and this", pair=True))
    samples = [evaluation_file(state, GAN, "samples.png") for state in (base, now)]
    if samples[0] and samples[1]:
        report_pictures.side_by_side(samples[0], samples[1], names, folder / "samples.png")
        blocks.append(Picture("samples.png", f"Generated images: {base.name} and this", pair=True))
    for title, network, name, both in (
        ("Confusion matrix", CNN, "confusion.png", tables),
        ("Generated images", GAN, "samples.png", samples),
    ):
        own = evaluation_file(now, network, name)
        if own and not both[0]:
            shutil.copyfile(own, folder / name)
            blocks.append(Picture(name, f"{title} of this; there is none at {base.name}"))
    return Section("Pictures", blocks) if blocks else None


def _predictions(state: State) -> report_pictures.Predictions | None:
    table, classes = evaluation_file(state, CNN, "predictions.csv"), state.file("data/ingest/classes.json")
    if table is None or classes is None:
        return None
    return report_pictures.Predictions(table, json.loads(classes.read_text(encoding="utf-8")))


def write_report(base: str | None, out: Path, *, with_gate: bool, failed_stage: str | None, log: Path | None) -> None:
    """Writes report.md, report.html and the pictures to the folder `out`; see `build_report`.

    base: a revision, or None for the default. Raises UserError when `out` holds other files.
    """
    credentials.refresh()
    commit = resolve_base(base)
    if out.exists() and any(out.iterdir()) and not (out / "report.md").exists():
        raise UserError(f"{out} holds other files, which the report would replace: name another folder with --out")
    with atomic_folder(out) as folder:
        report, lines = build_report(commit, folder, with_gate=with_gate, failed_stage=failed_stage, log=log)
        (folder / "report.md").write_text(markdown(report, MARKER), encoding="utf-8")
        (folder / "report.html").write_text(page(report, folder), encoding="utf-8")
    say(
        f"{out}/report.md and report.html, compared with {commit[:7]}",
        f"changed: {one_line(lines.changed, 300)}",
        f"effect:  {one_line(lines.effect, 300)}",
        f"gate:    {one_line(lines.gate, 300)}",
    )
