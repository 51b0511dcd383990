"""Searches for better params: `python -m ops search --minimise gan.val_fd -S 'gan.lr=log(1e-4,1e-2)' --trials 20`.

Optuna proposes params, and each trial is a DVC experiment of the stages that measure the objectives, in a throw-away
copy; its MLflow runs carry the tags `study` and `trial`. What is known of the study is in a database: the same command
takes up a search that was killed, and other clones and machines that give the same --study and --storage take part.

Reads  the commit in this clone, which must have no changes
Writes DVC experiments STUDY-NUMBER, MLflow runs, and in .visionloop: search.db, search/STUDY.png and, with what each
       experiment said, search/STUDY-NUMBER.log
"""

import argparse
import hashlib
import json
import os
import re
import signal
from collections.abc import Sequence
from functools import partial
from typing import Any

import optuna

from ops.project.pipeline import git
from ops.search import report as search_report
from ops.search import trial as search_trial
from ops.search.objectives import METRICS
from ops.search.search import Search, check_clean, only_search_here
from ops.search.study import Definition, counted, open_storage, open_study
from stages.running import terminal
from stages.running.checkout import main_checkout
from stages.running.terminal import UserError

UNPRUNED = 5  # trials before --prune begins


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ops search",
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
            help="a metric of the validation images, or a searched param as a cost; may be given several times",
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
        "--trials", type=int, default=20, metavar="N", help="in total, on all machines; default: %(default)s"
    )
    parser.add_argument("--study", metavar="NAME", help="default: made of the commit and what is searched for")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="sqlite:////path/search.db or postgresql://user@host/database; default: .visionloop/search.db",
    )
    parser.add_argument(
        "--prune", choices=["median"], help="stop a trial that is worse than the median of those before, midway"
    )
    parser.add_argument(
        "--prune-from",
        type=int,
        default=UNPRUNED,
        metavar="N",
        help="finished trials before that; default: %(default)s",
    )
    given = parser.parse_args(words)
    if given.trials < 1 or given.prune_from < 1:
        parser.error("--trials and --prune-from: expected 1 or more")
    if not given.space and not given.objectives and not given.study:
        parser.error("expected -S PARAM=SPACE and --minimise or --maximise METRIC, or a --study to take part in")
    if given.study and not re.fullmatch(r"\w[\w.-]*", given.study, re.ASCII):
        parser.error(f"--study {given.study!r}: experiments are named after it: expected letters, digits, . _ and -")
    if given.prune and not given.space:
        parser.error("--prune is said when a study begins, with -S and an objective")
    return given


def _with_direction(direction: str, name: str) -> list[str]:
    return [name, direction]


def _raise_interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    given = parse()
    definition = None
    if given.space or given.objectives:
        definition = Definition(git("rev-parse", "HEAD"), given.objectives, given.space, given.prune)
        definition.parsed()
        check_clean(definition.commit)
    if given.prune and os.environ.get("VISIONLOOP_TRACKING") == "off":
        raise UserError("--prune looks at what the stages record, which VISIONLOOP_TRACKING=off forbids: unset it")
    # Handlers, so that the experiments do not inherit what a shell in the background ignores.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _raise_interrupt)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = main_checkout() / ".visionloop" / "search"
    with only_search_here(folder) as clone:
        storage = open_storage(given.storage or f"sqlite:///{folder.parent / 'search.db'}")
        digest = hashlib.sha256(definition.text().encode()).hexdigest() if definition else ""
        study = open_study(storage, given.study or f"search-{digest[:6]}", definition, given.prune_from)
        kept = Definition(**json.loads(study.user_attrs["definition"]))
        check_clean(kept.commit)
        search = Search(study, kept, given.trials, folder, clone)
        ref = search_trial.experiment_ref(kept.commit, search.name("*"))
        if not counted(study.trials) and git("for-each-ref", ref):
            raise UserError(
                f"experiments named {search.name('...')} are here from a study of which {study.study_name} knows "
                "nothing: `uv run dvc exp remove` them, or take another --study"
            )
        terminal.say(search_report.headline(study, search.objectives, counted(study.trials), given.trials))
        search.run()
        terminal.say(*search_report.summary(study, search.objectives, kept.commit))
        picture = folder / f"{study.study_name}.png"
        if search_report.draw(study, search.objectives, picture):
            terminal.say(f"look at {picture}")


if __name__ == "__main__":
    terminal.run_stage(main)
