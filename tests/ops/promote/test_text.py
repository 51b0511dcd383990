"""The tables of a decision, for the terminal and in Markdown."""

import numpy as np
import pytest

from ops.promote.gate.classifiers import compare_classifiers
from ops.promote.gate.decision import Decision
from ops.promote.gate.policy import classifier_policy
from ops.promote.text import markdown_table, table
from tests.conftest import ROOT
from tests.ops.promote.gate.cases import sure


@pytest.fixture(autouse=True)
def shipped_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_tables_are_narrow_and_names_of_classes_do_no_harm():
    nasty = ["<b>|@octocat|`x`](http://evil)" + "\n" * 3, "a name that is much longer than a column should be"]
    labels = np.arange(400) % 2
    decision = compare_classifiers(
        sure(np.where(np.arange(400) < 40, 1 - labels, labels), 2, 0.99),
        sure(labels, 2, 0.99),
        labels,
        nasty,
        classifier_policy(),
    )
    lines = table(decision)
    assert max(map(len, lines)) <= 100
    assert len(lines) == 1 + len(decision.lines)
    assert lines[0].split() == ["metric", "champion", "candidate", "difference", "interval", "required", "met"]
    markdown = markdown_table(decision)
    rows = [row for row in markdown.splitlines() if row.startswith("|")]
    assert len(rows) == 2 + len(decision.lines)
    assert {row.count("|") for row in rows} == {8}
    assert not any(text in markdown for text in ("<b>", "@octocat", "`x`", "]("))
    assert decision.verdict() == "Promote:"
    assert decision.reason.startswith("accuracy is better (+0.1000, 95% interval +0.0")


def test_columns_in_which_nothing_stands_are_left_out():
    labels = np.arange(50) % 2
    decision = compare_classifiers(None, sure(labels, 2), labels, ["a", "b"], classifier_policy())
    assert table(decision)[0].split() == ["metric", "candidate", "required", "met"]
    assert table(Decision("visionloop-cnn", False, "nothing was compared", [])) == []
