"""Compares the models of this commit with the champions and promotes the better ones: `visionloop promote`.

Reads  data/ingest, data/reference, the networks of ops/project/networks.py and their metrics as recorded in dvc.lock,
       promotion.yaml, the champions in MLflow's registry (MLFLOW_TRACKING_URI, or mlflow.db)
Writes the registry: the alias `champion`, tags with the reasons, a run with the tables (see ops/project/registry.py)

Exit code: 0 when every model of this commit is now the champion, or already was; 3 when one was compared but not
promoted; 1 on an error.
"""

import argparse
import signal
import sys
from pathlib import Path

from ops.project.networks import NETWORKS
from stages.running import terminal


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="visionloop promote",
        description="Compares this commit's models with the champions on the present test images, by the rules of "
        "promotion.yaml, and promotes the better ones.",
        epilog="Exit code: 0 when every model of this commit is now the champion or already was, 3 when one was "
        "compared but not promoted, 1 on an error.",
    )
    parser.add_argument("--model", choices=list(NETWORKS), help="only this model; default: all")
    parser.add_argument("--dry-run", action="store_true", help="show the decisions, but change nothing")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="also write the tables as Markdown for GitHub")
    parser.add_argument("--rollback", action="store_true", help="make the previous champion the champion again")
    parser.add_argument("--again", action="store_true", help="also compare a version that was rolled back")
    arguments = parser.parse_args()
    if arguments.rollback and (arguments.dry_run or arguments.again or arguments.markdown):
        parser.error("--rollback can only be combined with --model")
    sections = [arguments.model] if arguments.model else list(NETWORKS)
    from ops.project.registry import mlflow_errors_as_user_errors
    from ops.promote.promotion import dry_run, promote, roll_back

    with mlflow_errors_as_user_errors():
        if arguments.rollback:
            roll_back(sections)
            return
        run = dry_run if arguments.dry_run else promote
        sys.exit(run(sections, arguments.again, arguments.markdown))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the lock is released
    terminal.run_stage(main)
