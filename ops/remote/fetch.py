"""Brings what stages made here, from the DVC remote: `python -m ops fetch [STAGE ...]`; without a stage, everything.

--update   first takes up what is new in imported data (`dvc update`) and runs these stages on it, for a look at
           data that nobody has committed yet
"""

import argparse

from ops.project.pipeline import check_remote, dvc, update_imports
from stages.running.terminal import run_stage, say


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ops fetch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    parser.add_argument("--update", action="store_true", help="take up what is new in imported data")
    arguments = parser.parse_args()
    check_remote()
    if arguments.update:
        update_imports(download=True)
        dvc("repro", "--pull", "--allow-missing", *arguments.stages)
    dvc("pull", *arguments.stages)
    say(f"fetched {', '.join(arguments.stages) or 'everything'}")


if __name__ == "__main__":
    run_stage(main)
