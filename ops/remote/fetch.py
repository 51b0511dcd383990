"""Fetches the outputs of stages from the DVC remote: `visionloop fetch [STAGE ...]`; without a stage, all outputs.

--networks fetches the inputs of `visionloop promote`: the data, the reference, and the outputs of training and
           evaluation
--update   first updates imported data (`dvc update`) and runs these stages on it, to inspect data before it is
           committed
"""

import argparse

from ops.project.networks import NETWORKS
from ops.project.pipeline import check_remote, dvc, update_imports
from stages.running.terminal import run_stage, say


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="visionloop fetch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    parser.add_argument("--networks", action="store_true", help="fetch the inputs of `visionloop promote`")
    parser.add_argument("--update", action="store_true", help="update imported data first")
    arguments = parser.parse_args()
    stages = [*arguments.stages, *(promotion_inputs() if arguments.networks else [])]
    check_remote()
    if arguments.update:
        update_imports(download=True)
        dvc("repro", "--pull", "--allow-missing", *stages)
    dvc("pull", *stages)
    say(f"fetched {', '.join(stages) or 'everything'}")


def promotion_inputs() -> list[str]:
    """The stages whose outputs `visionloop promote` reads."""
    network_stages = (stage for network in NETWORKS.values() for stage in (network.train_stage, network.evaluate_stage))
    return ["ingest", "validate", "reference", *network_stages]


if __name__ == "__main__":
    run_stage(main)
