"""Writes the tables of docs/metrics.md from the table of metrics: `visionloop metrics`; `--check` only compares."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from ops.project.networks import METRICS, NETWORKS
from stages.evaluation.reporting.metric import Metric
from stages.running.terminal import UserError, run_stage, say

PAGE = Path("docs/metrics.md")
BETTER = {"higher": "↑", "lower": "↓", None: ""}


def table(section: str, metrics: Iterable[Metric]) -> str:
    """The metrics of a section as a Markdown table, with their names in metrics.json."""
    lines = ["| metric | name | better | good | meaning |", "|---|---|---|---|---|"]
    lines += [
        f"| `{section}.{m.name}` | {m.label} | {BETTER[m.better]} | {_reference(section, m)} | {m.meaning} |"
        for m in metrics
    ]
    return "\n".join(lines) + "\n"


def _reference(section: str, metric: Metric) -> str:
    if metric.reference == "share":
        return "`evaluate_gan.near_copy`"
    is_metric = metric.reference in METRICS[section]
    return f"near `{metric.reference}`" if is_metric else f"near {metric.reference}" if metric.reference else ""


def filled(text: str) -> str:
    """The page with current tables between its marks. Raises UserError when a mark is missing."""
    for section in NETWORKS:
        for split in ("test", "val"):
            start = f"<!-- {section}:{split} -->\n"
            if start not in text:
                raise UserError(
                    f"{PAGE} has no mark for the metrics of {section} ({split}): "
                    f"add `{start.strip()}` and `<!-- end -->`"
                )
            head, _, rest = text.partition(start)
            _, end, tail = rest.partition("<!-- end -->")
            rows = (metric for metric in METRICS[section].values() if metric.split == split)
            text = head + start + table(section, rows) + end + tail
    return text


def main() -> None:
    parser = argparse.ArgumentParser(prog="visionloop metrics", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    before = PAGE.read_text(encoding="utf-8")
    after = filled(before)
    if check and after != before:
        raise UserError(f"{PAGE} is out of date: run `uv run visionloop metrics`")
    PAGE.write_text(after, encoding="utf-8")
    say(f"{PAGE} is up to date")


if __name__ == "__main__":
    run_stage(main)
