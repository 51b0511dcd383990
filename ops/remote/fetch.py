"""Fetches what stages made from the DVC remote: `python -m ops fetch [STAGE ...]`; without a stage, everything.

--networks what weighing all networks needs: the data, the reference, and what training and evaluation made
--update   first takes up what is new in imported data (`dvc update`) and runs these stages on it, for a look at
           data that nobody has committed yet
"""

import argparse

from ops.project.networks import NETWORKS
from ops.project.pipeline import check_remote, dvc, update_imports
from stages.running.terminal import run_stage, say


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ops fetch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    parser.add_argument("--networks", action="store_true", help="what weighing all networks needs")
    parser.add_argument("--update", action="store_true", help="take up what is new in imported data")
    arguments = parser.parse_args()
    stages = [*arguments.stages, *(stages_of_networks() if arguments.networks else [])]
    check_remote()
    if arguments.update:
        update_imports(download=True)
        dvc("repro", "--pull", "--allow-missing", *stages)
    dvc("pull", *stages)
    say(f"fetched {', '.join(stages) or 'everything'}")


def stages_of_networks() -> list[str]:
    """The stages whose outputs `promote` reads."""
    of_each = (stage for network in NETWORKS.values() for stage in (network.train_stage, network.evaluate_stage))
    return ["ingest", "validate", "reference", *of_each]


if __name__ == "__main__":
    run_stage(main)
