"""The cause of a failed pipeline: expectations that the data does not meet, or the last lines that a stage printed."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ops.pages.document import Block, Code, Listing, Paragraph, Picture, Piece, Section, Strong, Table, Text
from ops.pages.text import one_line
from ops.report.data import MANIFEST, SHOWN_IMAGES, read_manifest, rejected_blocks, write_thumbnails
from stages.running.terminal import UserError

FAILED = Path(".visionloop/validate/report.json")
PASSED = Path("data/validate/passed")
SHOWN_EXAMPLES = 5
IMAGES_OF_A_CLASS = 6


class Failure(NamedTuple):
    """The reason for missing results: a sentence for the headline, and the section."""

    sentence: str
    section: Section


def find_failure(stale: list[str], stage: str | None, log: Path | None, folder: Path) -> Failure | None:
    """The failure of the last `dvc repro`, or None; writes pictures of the affected images to `folder`.

    stale: the stages that DVC would run. stage, log: the stage that failed and its output, if known. Raises UserError
    when the log cannot be read.
    """
    # validate writes only one of the two files; but the report may belong to other data when ingest failed since.
    if FAILED.exists() and not PASSED.exists() and stage in (None, "validate") and "ingest" not in stale:
        return _broken_expectations(json.loads(FAILED.read_text(encoding="utf-8")), folder)
    blocks: list[Block] = []
    sentence = ""
    if stage or log:
        sentence = f"{stage or 'the pipeline'} failed"
        blocks.append(Paragraph([Strong(stage or "The pipeline"), " failed. Its last lines of output:"]))
        text = _read(log) if log else ""
        blocks.append(Listing(text) if text.strip() else Paragraph("It printed nothing."))
        if cause := [line for line in text.splitlines() if line.startswith("error: ")]:
            sentence += f": {one_line(cause[-1].removeprefix('error: '), 250)}"
    elif stale:
        sentence = f"not run yet: {', '.join(stale)}"
        stages = f" would run {', '.join(stale)} and the stages that depend on them."
        blocks.append(Paragraph(["The results here belong to another state: ", Code("dvc repro"), stages]))
    if not blocks:
        return None
    return Failure(sentence, Section("The pipeline failed" if stage or log else "Not run", blocks))


def _broken_expectations(report: dict[str, Any], folder: Path) -> Failure:
    """The failure from the report.json that validate writes when the data does not meet its expectations."""
    broken = [row for row in report["expectations"] if not row["success"]]
    rows: list[list[Text]] = []
    for row in broken:
        pieces: list[Piece] = []
        for example in row["examples"][:SHOWN_EXAMPLES]:
            pieces += ["; " if pieces else "", Code(example)]
        more = row["unexpected"] - min(SHOWN_EXAMPLES, len(row["examples"]))
        share = f"{row['unexpected']:,} of {row['rows']:,}"
        expected: list[Piece] = [row["expectation"]]
        if row["param"]:
            expected += [" (", Code(row["param"]), ")"]
        pieces += [f" and {more:,} more"] if pieces and more else []
        rows.append([expected, share, pieces])
    blocks: list[Block] = [
        Paragraph(
            f"The data breaks {len(broken)} of {len(report['expectations'])} expectations, so nothing was trained: "
            "fix the data set, or change the thresholds below `validate:` in params.yaml."
        ),
        Table(("expected", "broken by", "for example"), rows, "lrl"),
    ]
    if Path(MANIFEST).exists():
        blocks += _affected_images(broken, read_manifest(Path(MANIFEST)), folder)
    count = "1 expectation is" if len(broken) == 1 else f"{len(broken)} expectations are"
    first = f"{broken[0]['expectation']} (broken by {broken[0]['unexpected']:,} of {broken[0]['rows']:,})"
    sentence = f"validation failed: {count} not met, {'such as' if len(broken) > 1 else 'namely'}: {first}"
    return Failure(sentence, Section("Validation failed", blocks))


def _affected_images(broken: list[dict[str, Any]], manifest: pd.DataFrame, folder: Path) -> list[Block]:
    """Thumbnails of the images that the examples name, some of each class that they name, and the files left out."""
    accepted = manifest[manifest["reason"].isna()]
    pixels = accepted.drop_duplicates("sha256")[["sha256", "split", "position"]]  # a duplicate's pixels are there too
    by_source = manifest[["source", "class", "sha256"]].merge(pixels, on="sha256").drop_duplicates("source")
    by_source = by_source.set_index("source")
    rows, captions = [], []
    for row in broken:
        table = row["where"].split(".")[0]
        for example in row["examples"]:
            if table in ("images", "files") and (source := _leading_name(example, {*by_source.index})):
                rows.append(by_source.loc[source])
                captions.append(f"{by_source.loc[source, 'class']} {Path(source).stem}")
            elif table == "classes" and (name := _leading_name(example, {*accepted["class"]})):
                some = accepted[accepted["class"] == name].head(IMAGES_OF_A_CLASS)
                rows += [image for _, image in some.iterrows()]
                captions += [name] * len(some)
    blocks: list[Block] = []
    if rows:
        shown = pd.DataFrame(rows[:SHOWN_IMAGES])
        write_thumbnails(shown, captions[:SHOWN_IMAGES], folder / "concerned.png")
        blocks.append(Picture("concerned.png", "Affected images"))
    rejected = manifest[manifest["reason"].notna()]
    if len(rejected) and any(row["where"].startswith("files.") for row in broken):
        blocks += rejected_blocks(rejected, manifest, folder)
    return blocks


def _leading_name(example: str, names: set[str]) -> str | None:
    """The name at the start of an example, which a comma ends; names may contain commas themselves."""
    parts = example.split(", ")
    beginnings = (", ".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((beginning for beginning in beginnings if beginning in names), None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path}, the log of --log, cannot be read: {error.strerror}") from None
