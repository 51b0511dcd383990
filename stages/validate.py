"""Checks the data set against expectations, and stops the pipeline when one is not met.

Reads data/ingest. Writes data/validate: `report.json` (each expectation and what was found), `docs/index.html` (the
same as Great Expectations' Data Docs) and `passed` (the digest of the data that passed), on which the later stages
depend. When an expectation is not met, data/validate goes and the report and docs are left in .visionloop/validate.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from stages.lib import dataset, tracking
from stages.lib.expectations import Expectation, Outcome, evaluate, report
from stages.lib.outputs import whole_folder
from stages.lib.params import Params, load_params
from stages.lib.tables import NAMES, read_data_set
from stages.lib.terminal import UserError, run_stage, say

DATA = Path("data/ingest")
OUTPUT = Path("data/validate")
FAILED = Path(".visionloop/validate")


class ValidateParams(Params):
    classes: list[str] | None = Field(min_length=2)
    min_images_per_class: int = Field(ge=1, le=10**9)
    min_images_per_split: int = Field(ge=1, le=10**9)
    max_absent_classes: float = Field(ge=0, le=1)
    max_imbalance: float = Field(ge=1, le=1e12)
    max_duplicates: float = Field(ge=0, le=1)
    max_two_labels: float = Field(ge=0, le=1)
    max_rejected: float = Field(ge=0, le=1)
    min_std: float = Field(ge=0, le=128)
    max_blank: float = Field(ge=0, le=1)
    min_brightness: float = Field(ge=0, le=255)
    max_brightness: float = Field(ge=0, le=255)
    max_brightness_gap: float = Field(ge=0, le=255)


def expectations(p: ValidateParams, classes: Sequence[str], shape: str) -> list[Expectation]:
    """What is expected of a data set with these class names whose first shard holds images of this shape."""
    return [
        Expectation("the classes are those expected", "classes.status", "validate.classes", values=["as expected"]),
        Expectation(
            f"each class has at least {p.min_images_per_class} train images",
            "classes.train_images", "validate.min_images_per_class", low=p.min_images_per_class,
        ),
        Expectation(
            f"train, val and test have at least {p.min_images_per_split} images each "
            "(if not: add images, or raise ingest.val_fraction or ingest.test_fraction)",
            "splits.images_in_manifest", "validate.min_images_per_split", low=p.min_images_per_split,
        ),
        *(
            Expectation(
                f"at most {p.max_absent_classes:.4g} of the classes are absent from {split} "
                f"(if not: add images, or raise ingest.{split}_fraction)",
                f"classes.{split}_images", "validate.max_absent_classes", low=1, tolerance=p.max_absent_classes,
            )
            for split in ("val", "test")
        ),
        Expectation(
            f"no class has more than {p.max_imbalance:g} times the train images of another",
            "classes.imbalance", "validate.max_imbalance", high=p.max_imbalance,
        ),
        Expectation(
            f"at most {p.max_duplicates:.4g} of the files are duplicates",
            "files.outcome", "validate.max_duplicates", values=["accepted", "rejected"], tolerance=p.max_duplicates,
        ),
        Expectation(
            f"at most {p.max_rejected:.4g} of the files are rejected for other reasons",
            "files.outcome", "validate.max_rejected", values=["accepted", "duplicate"], tolerance=p.max_rejected,
        ),
        Expectation(
            f"at most {p.max_two_labels:.4g} of the files show an image found under two labels",
            "files.labels_of_its_pixels", "validate.max_two_labels", high=1, tolerance=p.max_two_labels,
        ),
        Expectation(
            f"at most {p.max_blank:.4g} of the images are blank (std below {p.min_std:g})",
            "images.std", "validate.max_blank", low=p.min_std, tolerance=p.max_blank,
        ),
        Expectation(
            f"the mean brightness of each class is {p.min_brightness:g} to {p.max_brightness:g}",
            "classes.brightness", "validate.min_brightness", low=p.min_brightness, high=p.max_brightness,
        ),
        Expectation(
            f"the mean brightness of each class is within {p.max_brightness_gap:g} of the median class",
            "classes.brightness_gap", "validate.max_brightness_gap", high=p.max_brightness_gap,
        ),
        Expectation("each label is a class", "images.label", low=0, high=len(classes) - 1),
        Expectation("each label stands for its class", "images.class", equals="class_of_label"),
        Expectation("each split is train, val or test", "images.split", values=dataset.SPLITS),
        Expectation(
            "the arrays hold as many images as the manifest", "splits.images_in_shards", equals="images_in_manifest"
        ),
        Expectation("the arrays are uint8", "shards.dtype", values=["uint8"]),
        Expectation(f"all images are {shape}", "shards.shape", values=[shape]),
    ]  # fmt: skip


def main() -> None:
    params = load_params(ValidateParams, "validate")
    with tracking.stage_run("validate", params) as run:
        tables, data_hash = read_data_set(DATA, params.classes)
        classes = dataset.read_classes(DATA)
        files, images, shapes = tables["files"], tables["images"], tables["shards"]["shape"]
        run.dataset(tracking.source_name(), data_hash, {"images": len(images), "classes": len(classes)})
        expected = expectations(params, classes, shapes[0] if len(shapes) else "missing")
        outcomes, docs = evaluate(expected, tables, NAMES)
        failed = [outcome for outcome in outcomes if not outcome.success]
        folder = FAILED if failed else OUTPUT
        with whole_folder(folder) as output:
            (output / "docs").mkdir()
            (output / "docs" / "index.html").write_text(docs, encoding="utf-8")
            (output / "report.json").write_text(report(outcomes), encoding="utf-8")
            if not failed:
                (output / "passed").write_text(data_hash + "\n", encoding="utf-8")
        run.artifact(folder / "docs", "data_docs")
        run.artifact(folder / "report.json")
        run.metrics({"expectations": len(outcomes), "expectations_failed": len(failed)})
        if failed:
            shutil.rmtree(OUTPUT, ignore_errors=True)  # of an earlier run: it would look like a pass of this data
            say(*describe(failed))
            raise UserError(
                f"the data breaks {len(failed)} of {len(outcomes)} expectations: mend the data set or change the "
                f"thresholds below `validate:` in params.yaml; details are in {folder}/docs/index.html"
            )
    shutil.rmtree(FAILED, ignore_errors=True)  # of an earlier run
    say(
        f"all {len(outcomes)} expectations met by {len(images)} images in {len(classes)} classes"
        f" ({len(files) - len(images)} of {len(files)} files left out)",
        f"report: {OUTPUT}/report.json, {OUTPUT}/docs/index.html",
    )


def describe(failed: Sequence[Outcome]) -> list[str]:
    """A short table for the terminal: what failed, how many rows, which param, and a few examples."""
    lines = []
    for outcome in failed:
        param = f" [{outcome.expectation.param}]" if outcome.expectation.param else ""
        lines.append(f"FAILED  {outcome.unexpected} of {outcome.rows}  {outcome.expectation.sentence}{param}")
        lines += [f"          {example}" for example in outcome.examples[:3]]
    return lines


if __name__ == "__main__":
    run_stage(main)
