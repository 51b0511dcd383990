"""Searches for better params: `visionloop search --minimise gan.val_fd -S 'gan.lr=log(1e-4,1e-2)' --trials 20`.

Optuna proposes params. Each trial is a DVC experiment, in a temporary copy, of the stages that measure the objectives;
its MLflow runs carry the tags `study` and `trial`. The study's state is in a database: the same command resumes a
search that was killed, and other clones and machines join it with the same --study and --storage.

Reads  the commit of this clone, which must have no uncommitted changes
Writes DVC experiments STUDY-NUMBER, MLflow runs, and in .visionloop: search.db, search/STUDY.png and each experiment's
       output in search/STUDY-NUMBER.log
"""

import argparse
import os
import re
from collections.abc import Sequence
from functools import partial

from ops.search.metrics import METRICS
from stages.running import terminal
from stages.running.terminal import UserError

PRUNE_FROM = 5  # finished trials before --prune begins


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="visionloop search",
        description=__doc__.split("\n\n")[1],
        epilog=f"Metrics: {', '.join(METRICS)}. See docs/search.md.",
    )
    for direction in ("minimise", "maximise"):
        parser.add_argument(
            f"--{direction}",
            dest="objectives",
            action="append",
            default=[],
            type=partial(_with_direction, direction),
            metavar="METRIC",
            help="a metric of the validation images, or a searched param as a cost; can be repeated",
        )
    parser.add_argument(
        "-S",
        dest="space",
        action="append",
        default=[],
        metavar="PARAM=SPACE",
        help="log(1e-4,1e-2), float(0,0.3), int(2,12), or values such as 32,48,64",
    )
    parser.add_argument(
        "--trials", type=int, default=20, metavar="N", help="total number, on all machines; default: %(default)s"
    )
    parser.add_argument("--study", metavar="NAME", help="default: derived from the commit, objectives and space")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="sqlite:////path/search.db or postgresql://user@host/database; default: .visionloop/search.db",
    )
    parser.add_argument(
        "--prune", choices=["median"], help="stop a trial early when it is worse than the median of earlier trials"
    )
    parser.add_argument(
        "--prune-from",
        type=int,
        default=PRUNE_FROM,
        metavar="N",
        help="finished trials before pruning begins; default: %(default)s",
    )
    arguments = parser.parse_args(words)
    if arguments.trials < 1 or arguments.prune_from < 1:
        parser.error("--trials and --prune-from: expected 1 or more")
    if not arguments.space and not arguments.objectives and not arguments.study:
        parser.error("expected -S PARAM=SPACE and --minimise or --maximise METRIC, or a --study to join")
    if arguments.study and not re.fullmatch(r"\w[\w.-]*", arguments.study, re.ASCII):
        parser.error(
            f"--study {arguments.study!r}: expected letters, digits, . _ and -, as experiments are named after it"
        )
    if arguments.prune and not arguments.space:
        parser.error("--prune can only be set when a study begins: give -S and an objective as well")
    return arguments


def _with_direction(direction: str, name: str) -> list[str]:
    return [name, direction]


def main() -> None:
    arguments = parse()
    if arguments.prune and os.environ.get("VISIONLOOP_TRACKING") == "off":
        raise UserError("--prune needs the metrics that stages record, but VISIONLOOP_TRACKING is off: unset it")
    from ops.search.search import run_search

    run_search(arguments)


if __name__ == "__main__":
    terminal.run_stage(main)
