"""Compares this state of the project with a base revision, in Markdown and as a page: `visionloop report`.

It lists the changes (of params, data and code), their effect on the metrics, with intervals of the differences, and the
decision that the gate would make, and shows images and confusion matrices side by side. This state is the work tree.

The base is, unless --base names it: in a pull request's workflow (GITHUB_BASE_REF) the merge base with its target; else
HEAD when the work tree differs from it; else the commit before HEAD.

Writes report.md (for a comment on GitHub), its pictures, and report.html (one self-contained page).
"""

import argparse
from pathlib import Path

from stages.running.terminal import run_stage

OUT = Path(".visionloop/report")


def main() -> None:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="visionloop report",
        description=f"{summary}\n\n{rest}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", metavar="REV", help="compare with this branch, tag or commit")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=OUT, help=f"output folder (default {OUT})")
    parser.add_argument("--no-gate", dest="gate", action="store_false", help="do not ask MLflow for champion and runs")
    parser.add_argument("--failed-stage", metavar="NAME", help="the stage at which `dvc repro` failed")
    parser.add_argument("--log", metavar="FILE", type=Path, help="output of `dvc repro`; its last lines are quoted")
    arguments = parser.parse_args()
    from ops.report.comparison import write_report

    write_report(
        arguments.base,
        arguments.out,
        with_gate=arguments.gate,
        failed_stage=arguments.failed_stage,
        log=arguments.log,
    )


if __name__ == "__main__":
    run_stage(main)
