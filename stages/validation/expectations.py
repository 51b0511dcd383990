"""Expectations about tables, evaluated by Great Expectations: plain results for the report, and the Data Docs page.

Great Expectations takes several seconds to import, so that happens in `evaluate`, after the params were checked.
"""

import json
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.core.outputs import LOOK_ALIKES

EXAMPLES = 10


@dataclass(frozen=True)
class Expectation:
    """Each value of a column lies in a range, in a set, or equals another column of its row.

    `where` is "table.column"; `tolerance` is the share of rows, 0 to 1, that may break it; `param` is the param with
    the threshold.
    """

    sentence: str
    where: str
    param: str | None = None
    low: float | None = None
    high: float | None = None
    values: Sequence[Any] | None = None
    equals: str | None = None
    tolerance: float = 0.0

    @property
    def table(self) -> str:
        return self.where.split(".")[0]

    @property
    def column(self) -> str:
        return self.where.split(".")[1]


@dataclass(frozen=True)
class Outcome:
    """The outcome of an expectation: `unexpected` of `rows` rows broke it, `examples` shows some of them.

    `observed` is the lowest and highest value where a range is expected.
    """

    expectation: Expectation
    success: bool
    rows: int
    unexpected: int
    examples: tuple[str, ...]
    observed: tuple[float, float] | None


def evaluate(
    expectations: Sequence[Expectation], tables: Mapping[str, pd.DataFrame], names: Mapping[str, Sequence[str]]
) -> tuple[list[Outcome], str]:
    """Returns the outcome of each expectation, in order, and the Data Docs as one HTML page.

    Args:
        expectations: what to evaluate.
        tables: the tables that they refer to.
        names: for each table, the columns that identify a row to the user.
    """
    with warnings.catch_warnings(action="ignore"):  # it imports deprecated modules
        import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    source = context.data_sources.add_pandas("data")
    results = []
    for table, frame in tables.items():
        definition = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe(table)
        batch = definition.get_batch({"dataframe": frame})
        for expectation in (each for each in expectations if each.table == table):
            result_format = {
                "result_format": "SUMMARY",
                "partial_unexpected_count": EXAMPLES,
                "unexpected_index_column_names": list(names[table]),
            }
            result = batch.validate(_translate(gx, expectation), result_format=result_format)
            if "element_count" not in result.result:
                raise RuntimeError(f"{expectation.sentence}: {result.exception_info}")
            results.append((expectation, result))
    results.sort(key=lambda pair: expectations.index(pair[0]))
    outcomes = [
        _outcome(expectation, result, names[expectation.table], tables[expectation.table][expectation.column])
        for expectation, result in results
    ]
    return outcomes, _data_docs(gx, outcomes, [result.to_json_dict() for _, result in results])


def report(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as JSON text, failed ones first."""
    rows = [
        {
            "expectation": outcome.expectation.sentence,
            "success": outcome.success,
            "unexpected": outcome.unexpected,
            "rows": outcome.rows,
            "share": round(outcome.unexpected / max(1, outcome.rows), 6),
            "tolerance": outcome.expectation.tolerance,
            "where": outcome.expectation.where,
            "param": outcome.expectation.param,
            "observed": outcome.observed,
            "examples": outcome.examples,
        }
        for outcome in sorted(outcomes, key=lambda outcome: outcome.success)
    ]
    document = {"success": all(outcome.success for outcome in outcomes), "expectations": rows}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def describe_failures(failed: Sequence[Outcome]) -> list[str]:
    """A short table for the terminal: what failed, how many rows, which param, and a few examples."""
    lines = []
    for outcome in failed:
        param = f" [{outcome.expectation.param}]" if outcome.expectation.param else ""
        lines.append(f"FAILED  {outcome.unexpected} of {outcome.rows}  {outcome.expectation.sentence}{param}")
        lines += [f"          {example}" for example in outcome.examples[:3]]
    return lines


def _translate(gx: Any, expectation: Expectation) -> Any:
    """The expectation in Great Expectations' terms."""
    common = {"mostly": 1 - expectation.tolerance, "description": expectation.sentence}
    if expectation.values is not None:
        return gx.expectations.ExpectColumnValuesToBeInSet(
            column=expectation.column, value_set=list(expectation.values), **common
        )
    if expectation.equals is not None:
        return gx.expectations.ExpectColumnPairValuesToBeEqual(
            column_A=expectation.column, column_B=expectation.equals, **common
        )
    return gx.expectations.ExpectColumnValuesToBeBetween(
        column=expectation.column, min_value=expectation.low, max_value=expectation.high, **common
    )


def _outcome(expectation: Expectation, result: Any, names: Sequence[str], column: pd.Series) -> Outcome:
    found = result.result
    examples = []
    for row in found.get("partial_unexpected_index_list") or []:
        texts = [str(row[name]) for name in names if isinstance(row[name], str)]
        texts += [f"{column} {_plain(value)}" for column, value in row.items() if column not in names]
        examples.append(", ".join(texts))
    is_range = expectation.values is None and expectation.equals is None and column.notna().any()
    return Outcome(
        expectation,
        bool(result.success),
        int(found["element_count"]),
        int(found.get("unexpected_count") or 0),
        tuple(examples),
        (_plain(column.min()), _plain(column.max())) if is_range else None,
    )


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return round(value, 4) if isinstance(value, float) else value


# The page loads its style from the web; this makes it readable, with its marks, without a network.
PLAIN_STYLE = """
body { font-family: sans-serif; }
td, th { padding: 0.25em 0.8em; text-align: left; }
i.fas { font-style: normal; }
i.fa-check-circle::before { content: "\\2713"; color: green; }
i.fa-times::before { content: "\\2717"; color: red; }
"""


def _data_docs(gx: Any, outcomes: Sequence[Outcome], results: list[dict[str, Any]]) -> str:
    """One page for all results, without the time, random ids, and links to pages that only a whole site has."""
    from great_expectations.core import ExpectationSuiteValidationResult, expectationValidationResultSchema
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    for outcome, result in zip(outcomes, results, strict=True):
        if outcome.examples and not outcome.success:
            result["expectation_config"]["description"] += "; it is not so for: " + "; ".join(outcome.examples)
    passed = sum(outcome.success for outcome in outcomes)
    suite = ExpectationSuiteValidationResult(
        success=passed == len(results),
        results=[expectationValidationResultSchema.load(_sanitised(result)) for result in results],
        suite_name="data/ingest",
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(results) - passed,
            "success_percent": 100 * passed / max(1, len(results)),
        },
        meta={"great_expectations_version": gx.__version__},
    )
    page = DefaultJinjaPageView().render(ValidationResultsPageRenderer(run_info_at_end=True).render(suite))
    page = re.sub(r"\?d=\d{8}T\d{6}\.\d+Z", "", page)
    page = re.sub(r'<a href="\.\./[^"]*"\s*>(.*?)</a>|<link [^>]*href="\.\./[^>]*>', r"\1", page, flags=re.DOTALL)
    uuids = re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", page)
    for number, uuid in enumerate(dict.fromkeys(uuids)):
        page = page.replace(uuid, f"element-{number}")
    page = page.replace("</head>", f"<style>{PLAIN_STYLE}</style></head>", 1)
    return page.replace(" / __none__", "").replace("__none__", "not recorded")


def _sanitised(value: Any) -> Any:
    """`value`, a JSON tree, with look-alikes for the characters that a browser or a template would interpret."""
    if isinstance(value, dict):
        return {key: _sanitised(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_sanitised(each) for each in value]
    return value.translate(LOOK_ALIKES) if isinstance(value, str) else value
