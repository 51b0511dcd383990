"""Checks the data set against expectations, and stops the pipeline when one is not met.

Reads data/ingest. Writes data/validate: `report.json` (each expectation and what was found), `docs/index.html` (the
same as Great Expectations' Data Docs) and `passed` (the digest of the data that passed), on which the later stages
depend. When an expectation is not met, removes data/validate and writes the report and docs to .visionloop/validate.
"""

import shutil
from pathlib import Path

from pydantic import Field

from stages.core.dataset import read_classes
from stages.core.outputs import atomic_folder
from stages.core.params import Params, load_params
from stages.running.terminal import UserError, run_stage, say
from stages.running.tracking.record import source_name, stage_run
from stages.validation.expectations import Outcome, describe_failures, evaluate, report
from stages.validation.requirements import data_set_expectations
from stages.validation.tables import NAMES, read_data_set

DATA, OUTPUT, FAILED = Path("data/ingest"), Path("data/validate"), Path(".visionloop/validate")


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


def check(params: ValidateParams, tables: dict, classes: list[str]) -> tuple[list[Outcome], str]:
    """The outcome of each expectation about the tables of a data set with these classes, and the Data Docs (HTML)."""
    shapes = tables["shards"]["shape"]
    expected = data_set_expectations(
        classes,
        shapes[0] if len(shapes) else "missing",
        min_images_per_class=params.min_images_per_class,
        min_images_per_split=params.min_images_per_split,
        max_absent_classes=params.max_absent_classes,
        max_imbalance=params.max_imbalance,
        max_duplicates=params.max_duplicates,
        max_two_labels=params.max_two_labels,
        max_rejected=params.max_rejected,
        min_std=params.min_std,
        max_blank=params.max_blank,
        min_brightness=params.min_brightness,
        max_brightness=params.max_brightness,
        max_brightness_gap=params.max_brightness_gap,
    )
    return evaluate(expected, tables, NAMES)


def main() -> None:
    params = load_params(ValidateParams, "validate")
    with stage_run("validate", params) as run:
        tables, data_hash = read_data_set(DATA, params.classes)
        classes = read_classes(DATA)
        files, images = tables["files"], tables["images"]
        run.dataset(source_name(), data_hash, {"images": len(images), "classes": len(classes)})
        outcomes, docs = check(params, tables, classes)
        failed = [outcome for outcome in outcomes if not outcome.success]
        folder = FAILED if failed else OUTPUT
        with atomic_folder(folder) as output:
            (output / "docs").mkdir()
            (output / "docs" / "index.html").write_text(docs, encoding="utf-8")
            (output / "report.json").write_text(report(outcomes), encoding="utf-8")
            if not failed:
                (output / "passed").write_text(data_hash + "\n", encoding="utf-8")
        run.artifact(folder / "docs", "data_docs")
        run.artifact(folder / "report.json")
        run.metrics({"expectations": len(outcomes), "expectations_failed": len(failed)})
        if failed:
            shutil.rmtree(OUTPUT, ignore_errors=True)  # of an earlier run: this data would seem to have passed
            say(*describe_failures(failed))
            raise UserError(
                f"the data breaks {len(failed)} of {len(outcomes)} expectations: fix the data set or change the "
                f"thresholds below `validate:` in params.yaml; details are in {folder}/docs/index.html"
            )
    shutil.rmtree(FAILED, ignore_errors=True)  # of an earlier run
    say(
        f"all {len(outcomes)} expectations met by {len(images)} images in {len(classes)} classes"
        f" ({len(files) - len(images)} of {len(files)} files left out)",
        f"report: {OUTPUT}/report.json, {OUTPUT}/docs/index.html",
    )


if __name__ == "__main__":
    run_stage(main)
