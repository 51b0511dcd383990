"""Expectations and their outcomes in reports and Data Docs."""

import json

import pandas as pd
import pytest

from stages.validation.expectations import Expectation, evaluate, report

TABLES = {
    "fruit": pd.DataFrame({"name": ["fig", "pear", "plum"], "grams": [50.0, 180.0, None], "kind": ["a", "b", "b"]})
}
NAMES = {"fruit": ["name"]}


def outcome(**what):
    outcomes, _ = evaluate([Expectation("a sentence", **what)], TABLES, NAMES)
    return outcomes[0]


@pytest.mark.parametrize(("tolerance", "success"), [(0.0, False), (0.33, False), (0.34, True), (1.0, True)])
def test_the_tolerance_is_a_share_of_the_rows(tolerance, success):
    found = outcome(where="fruit.kind", values=["b"], tolerance=tolerance)
    assert (found.success, found.rows, found.unexpected) == (success, 3, 1)
    assert found.examples == ("fig, kind a",)


def test_a_range_includes_its_ends_and_tells_what_was_observed():
    found = outcome(where="fruit.grams", low=50, high=180)
    assert found.success
    assert found.observed == (50.0, 180.0)
    assert outcome(where="fruit.grams", low=51).examples == ("fig, grams 50.0",)


def test_outcomes_keep_their_order_and_the_report_starts_with_failures():
    good, bad = (Expectation(word, "fruit.kind", values=list(word)) for word in ("ab", "a"))
    outcomes, page = evaluate([good, bad], TABLES, NAMES)
    assert [outcome.expectation for outcome in outcomes] == [good, bad]
    assert [row["expectation"] for row in json.loads(report(outcomes))["expectations"]] == ["a", "ab"]
    assert "it is not so for: pear, kind b; plum, kind b" in page
