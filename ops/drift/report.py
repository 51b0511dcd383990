"""The drift report: a table for the terminal, Markdown for an issue, and a page with pictures."""

from __future__ import annotations

import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ops.drift.findings import Finding
from ops.drift.images import Gallery
from ops.drift.measures import regroup, reweighted
from ops.drift.profile import BINS, STATISTICS, Observed, Profile, count
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
from ops.pages.terminal import aligned
from ops.project.networks import CNN
from stages.drawing.grids import image_grid
from stages.drawing.text import shortened

MAX_BARS = 30  # classes in the picture of the class prior
MAX_EXTRA_BINS = 200  # on either side of the profile's bins, in a histogram
COLUMNS = 4  # of images; more would be too small on a phone
OLD, NEW = "#9aa5b1", "#d1495b"
STYLE = "td.l:last-child { min-width: 15em; }"  # of the page: the last column holds the details
NO_INDEX = ("distance", "unusual images", "new classes")  # findings whose value is not a population stability index


@dataclass(frozen=True)
class Report:
    """A comparison of images with a champion's profile."""

    data: str
    version: int
    profile: Profile
    observed: Observed
    labels: np.ndarray  # int [n], as in the profile
    new: np.ndarray  # bool [n]
    findings: list[Finding]
    gallery: Gallery | None
    undecodable: list[str]
    min_new_images: int

    @property
    def alarms(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.alarm]

    @property
    def verdict(self) -> str:
        """One sentence."""
        model = f"version {self.version} of {CNN.model}"
        if not self.alarms:
            return f"No drift: the images in {self.data} are like the training images of {model}."
        differences = {
            images: _listed([finding.name for finding in self.alarms if finding.scope == scope])
            for scope, images in (("all", "all images"), ("new", "the new images"))
        }
        shown = " and ".join(f"{names} of {images}" for images, names in differences.items() if names)
        return f"Drift: the images in {self.data} differ from the training images of {model} in {shown}."

    @property
    def scale(self) -> str:
        """A sentence with the numbers of images."""
        total, new, old = len(self.new), int(self.new.sum()), int(self.profile.counts.sum())
        if new == total:
            compared = f"{total:,} images, all of them new,"
        elif new:
            compared = f"{total:,} images, {new:,} of them new,"
        else:
            compared = f"{total:,} images, none of them new,"
        few = ""
        if 0 < new < self.min_new_images:
            few = f" Fewer than {self.min_new_images} new images are shown, but not tested separately."
        bad = f" Files that cannot be decoded: {len(self.undecodable):,}." if self.undecodable else ""
        return f"{compared} were compared with the profile of {old:,}.{few}{bad}"

    def metrics(self) -> dict[str, float]:
        """For MLflow: psi.SCOPE.NAME, distance.SCOPE, ... and p.SCOPE.NAME."""
        values = {
            "images": float(len(self.new)),
            "new_images": float(self.new.sum()),
            "alarms": float(len(self.alarms)),
        }
        for f in self.findings:
            name = f.name.replace(" ", "_")
            values[f"{name}.{f.scope}" if f.name in NO_INDEX else f"psi.{f.scope}.{name}"] = f.value
            if f.p is not None:
                values[f"p.{f.scope}.{name}"] = f.p
        return values

    def terminal(self) -> list[str]:
        """The table and the verdict, in lines of up to 100 characters unless names are longer."""
        rows = [("images", "compared", "value", "alarm from", "p", "", "")]
        rows += [
            (
                f.scope,
                f.name,
                *_cells(f),
                "DRIFT" if f.alarm else "",
                textwrap.shorten(f.detail, 60, placeholder="…"),
            )
            for f in self.findings
        ]
        return [*aligned(rows, "llrrrll"), "", *textwrap.wrap(self.verdict, 98), *textwrap.wrap(self.scale, 98)]


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _cells(f: Finding) -> tuple[str, str, str]:
    """The formatted value, threshold and p-value."""
    if f.name == "new classes":
        return f"{f.value:.0f}", f"{f.threshold:.0f}", ""
    if f.name == "unusual images":
        value, threshold = f"{f.value:.1%}", f"{f.threshold:.1%}"
    else:
        value, threshold = f"{f.value:.3f}", f"{f.threshold:g}"
    return value, threshold, "" if f.p is None else "<0.0001" if f.p < 1e-4 else f"{f.p:.4f}"


def write_report(report: Report, folder: Path) -> None:
    """Writes drift.html (one self-contained page), drift.md (tables, for an issue) and the pictures."""
    statistics_picture(report, folder / "statistics.png")
    if report.gallery:
        gallery_pictures(report.gallery, folder)
    (folder / "drift.html").write_text(page(_document(report, True), folder, STYLE), encoding="utf-8")
    (folder / "drift.md").write_text(markdown(_document(report, False)), encoding="utf-8")


def _document(report: Report, pictures: bool) -> Document:
    rows: list[list[Text]] = [
        [f"{f.name}, {f.scope}", Strong("drift") if f.alarm else "", *_cells(f), f.detail] for f in report.findings
    ]
    table = Table(["compared, images", "", "value", "alarm from", "p", "details"], rows, "llrrrl")
    explanation = (
        "An alarm needs both a difference as large as the threshold and a p-value (adjusted for the number of tests) "
        "below the share of false alarms that drift.yaml allows. Class prior and statistics are population stability "
        "indices: below 0.1 counts as no change, above 0.25 as a major one. All but the class prior compare images "
        "with old ones of the same class. A distance of 1 means as far from their class as another class."
    )
    sections = [
        Section("Comparison", [Paragraph(report.scale), table, Paragraph(Emphasis(explanation))]),
        Section("Classes", [_class_table(report)]),
    ]
    if pictures:
        shown = "new" if _histogram_scope(report) == "new" else "all"
        caption = (
            "Grey: the profile, in the histograms with the same class shares. Red: all images in the class prior, "
            f"{shown} images in the histograms."
        )
        sections.append(Section("Statistics", [Picture("statistics.png", caption)]))
    if report.gallery:
        blocks: list[Block] = []
        if pictures:
            blocks.append(Picture("unusual.png", "The new images that are farthest from the old ones of their class"))
            blocks.append(Picture("typical.png", "For comparison: new images at the usual distance of old ones"))
        listed: list[list[Text]] = [
            [f"{score:.2f}", name, source]
            for score, name, source in zip(
                report.gallery.scores[: report.gallery.unusual], report.gallery.classes, report.gallery.sources,
                strict=False,
            )
        ]  # fmt: skip
        score_head = "distance to the old images of its class, relative to their distances from each other"
        blocks.append(Table([score_head, "class", "image"], listed, "rll", folded="names of the most unusual images"))
        sections.append(Section("Most unusual images", blocks))
    if report.undecodable:
        bad: list[list[Text]] = [[text] for text in report.undecodable]
        sections.append(Section("Files that cannot be decoded", [Table(["file and reason"], bad, "l")]))
    versions = f": {report.data} compared with version {report.version} of {CNN.model}."
    footer: list[Piece] = ["Made by ", Code("uv run visionloop drift"), versions]
    headline = Strong(report.verdict) if report.alarms else report.verdict
    return Document("visionloop: drift", "Data drift", headline, sections, footer)


def _class_table(report: Report) -> Table:
    names = [*report.profile.classes]
    names += [name for name in report.observed.classes if name not in report.profile.classes]
    now = np.bincount(report.labels, minlength=len(names))
    new = np.bincount(report.labels[report.new], minlength=len(names))
    before = np.concatenate([report.profile.counts, np.zeros(len(names) - len(report.profile.classes), np.int64)])
    share, share_before = now / max(1, now.sum()), before / max(1, before.sum())
    order = np.argsort(-np.abs(share - share_before), kind="stable")
    rows: list[list[Text]] = [
        [
            names[k],
            f"{before[k]:,}",
            f"{share_before[k]:.1%}",
            f"{now[k]:,}",
            f"{share[k]:.1%}",
            f"{round(100 * (share[k] - share_before[k]), 1) + 0.0:+.1f}",
            f"{new[k]:,}",
        ]
        for k in order
    ]
    return Table(["class", "profile", "share", "now", "share", "change in points", "new"], rows, "lrrrrrr")


def _histogram_scope(report: Report) -> str:
    """The scope of the histograms: the new images if they are compared separately."""
    return "new" if any(f.scope == "new" for f in report.findings) else "all"


def statistics_picture(report: Report, path: Path) -> None:
    """Draws a panel for the class prior of all images, unless there are many classes, and one for each image statistic,
    of the new images if they are compared separately: the profile in grey, the images in colour."""
    import matplotlib
    from matplotlib.figure import Figure

    profile, scope = report.profile, _histogram_scope(report)
    classes = len(profile.classes)
    chosen = (report.labels < classes) & (report.new if scope == "new" else np.ones(len(report.new), bool))
    values = report.observed.statistics[chosen]
    counts = count(values, report.labels[chosen], classes, profile.edges)
    now = np.bincount(report.labels, minlength=classes)[:classes]
    names = ["class prior"] * (classes <= MAX_BARS) + profile.statistics
    by_name = {(f.scope, f.name): f for f in report.findings}
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # ignores the user's own style
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = Figure(figsize=(3.4 * columns, 2.7 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, name in zip(axes, names, strict=False):
            axis.spines[["top", "right"]].set_visible(False)
            if name == "class prior":
                places = np.arange(classes)
                axis.bar(places - 0.2, profile.counts / max(1, profile.counts.sum()), 0.4, color=OLD, label="profile")
                axis.bar(places + 0.2, now / max(1, now.sum()), 0.4, color=NEW, label="all images")
                turned = classes > 6 or max(map(len, profile.classes)) > 6
                labels = [shortened(text, 12) for text in profile.classes]
                axis.set_xticks(places, labels, rotation=90 if turned else 0, fontsize=7, parse_math=False)
                axis.set_ylabel("share of the images", fontsize=8)
                axis.set_ylim(0, 1.25 * axis.get_ylim()[1])  # room for the legend above the bars
                axis.legend(fontsize=7, frameon=False, ncols=2, loc="upper center")
            else:
                index = profile.statistics.index(name)
                old = profile.histograms[:, index].astype(np.int64)
                _draw_histogram(axis, counts[:, index], values[:, index], old, profile.edges[index])
                axis.set_xlabel(textwrap.fill(STATISTICS[name], 40), fontsize=8)
            found = by_name.get((scope, name)) or by_name.get(("all", name))
            if found:
                axis.set_title(f"{name}, index {found.value:.2f}", fontsize=9, color=NEW if found.alarm else "black")
            axis.tick_params(labelsize=7)
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_histogram(axis, new: np.ndarray, values: np.ndarray, old: np.ndarray, edges: np.ndarray) -> None:
    """Draws shares of the images by a statistic, merging three bins into one: old counts [classes, bins] with the class
    shares of the new ones, and the new values [n]. Extends the profile's bins to the range of the new values."""
    thirds = np.clip((np.arange(BINS + 2) - 1) // 3, 0, BINS // 3 - 1)  # the few values beyond are drawn at the margin
    before = regroup(reweighted(new, old), thirds)
    width = edges[3] - edges[0]
    low, high = np.quantile(values, [0.005, 0.995]) if len(values) else edges[[0, -1]]
    extra = [int(np.clip(np.ceil(room / width) + 1, 0, MAX_EXTRA_BINS)) for room in (edges[0] - low, high - edges[-1])]
    bins = edges[0] + width * np.arange(-extra[0], BINS // 3 + extra[1] + 1)
    after, _ = np.histogram(np.clip(values, bins[0], bins[-1]), bins)
    before = np.pad(before, extra)
    axis.stairs(before / max(1.0, before.sum()), bins, fill=True, color=OLD)
    axis.stairs(after / max(1, after.sum()), bins, color=NEW, linewidth=1.5)
    filled = np.flatnonzero(before + after > 0)
    if len(filled):
        axis.set_xlim(bins[max(0, filled[0] - 1)], bins[min(len(bins) - 1, filled[-1] + 2)])
    axis.set_ylabel("share of the images", fontsize=8)


def gallery_pictures(gallery: Gallery, folder: Path) -> None:
    """Draws unusual.png and typical.png: the images with class and file name."""
    captions = [
        f"{name}: {source.rpartition('/')[2]}" for name, source in zip(gallery.classes, gallery.sources, strict=True)
    ]
    for name, part in (("unusual", slice(gallery.unusual)), ("typical", slice(gallery.unusual, None))):
        image_grid(
            gallery.images[part], folder / f"{name}.png", COLUMNS, captions=captions[part], tile=140, font_size=12
        )
