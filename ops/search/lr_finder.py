"""Suggests a learning rate: `visionloop lr-finder cnn` (learning-rate range test, Smith 2017).

Trains a new network on the current data and params while the rate grows exponentially, and records the loss: it is
constant at low rates, then falls, and diverges at high rates. Writes the curve to .visionloop/lr_finder/cnn.png and
prints the suggestion: a tenth of the rate at which the smoothed loss is lowest. Reads data/ingest and data/augment.
"""

import argparse

from stages.running import terminal


def main() -> None:
    parser = argparse.ArgumentParser(prog="visionloop lr-finder", description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=["cnn"], help="the section of params.yaml to suggest a rate for")
    parser.add_argument("--steps", type=int, default=300, help="updates, 20 or more; default: %(default)s")
    arguments = parser.parse_args()
    if arguments.steps < 20:
        parser.error(f"--steps {arguments.steps}: expected 20 or more")
    from ops.search.rate_range_test import suggest_rate

    suggest_rate(arguments.network, arguments.steps)


if __name__ == "__main__":
    terminal.run_stage(main)
