"""Writes the tables of docs/metrics.md from the table of metrics: `python -m ops metrics`; `--check` only compares."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from ops.project.networks import METRICS, NETWORKS
from stages.evaluation.reporting.metric import Metric
from stages.running.terminal import UserError, run_stage, say

PAGE = Path("docs/metrics.md")
BETTER = {"higher": "↑", "lower": "↓", None: ""}


def table(section: str, metrics: Iterable[Metric]) -> str:
    """The metrics of a section as a Markdown table, with the file's names."""
    lines = ["| figure | name | better | good | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{section}.{m.name}` | {m.label} | {BETTER[m.better]} | {_reference(section, m)} | {m.meaning} |"
        for m in metrics
    ]
    return "\n".join(lines) + "\n"


def _reference(section: str, metric: Metric) -> str:
    if metric.reference == "share":
        return "`evaluate_gan.near_copy`"
    named = metric.reference in METRICS[section]
    return f"near `{metric.reference}`" if named else f"near {metric.reference}" if metric.reference else ""


def filled(text: str) -> str:
    """The page with today's tables between its marks. Raises UserError when it lacks one of them."""
    for section in NETWORKS:
        for split in ("test", "val"):
            start = f"<!-- {section}:{split} -->\n"
            if start not in text:
                raise UserError(f"{PAGE} has no place for the metrics of {section} ({split}): add `{start.strip()}`")
            head, _, rest = text.partition(start)
            _, end, tail = rest.partition("<!-- end -->")
            rows = (metric for metric in METRICS[section].values() if metric.split == split)
            text = head + start + table(section, rows) + end + tail
    return text


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops metrics", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    before = PAGE.read_text(encoding="utf-8")
    after = filled(before)
    if check and after != before:
        raise UserError(f"{PAGE} does not hold the metrics as they are: run `python -m ops metrics`")
    PAGE.write_text(after, encoding="utf-8")
    say(f"{PAGE} holds the metrics as they are")


if __name__ == "__main__":
    run_stage(main)
