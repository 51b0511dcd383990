"""Where a state of the project keeps what its networks were found to be on the test images."""

import json
from pathlib import Path

from ops.project.networks import NETWORKS
from ops.project.revisions import State, locked
from stages.serving.registry.network import Network

# Where one stage wrote the files of both networks, in commits of before there was a stage for each.
TOGETHER = Path("data/evaluate")


def recorded_metrics(state: State) -> dict[str, dict[str, float]]:
    """The metrics by section and name; without the networks that were not evaluated."""
    found = {}
    for section, network in NETWORKS.items():
        metrics = json.loads(state.text(str(_folder(state, network) / "metrics.json")) or "{}")
        if section in metrics:
            found[section] = metrics[section]
    return found


def evaluation_file(state: State, network: Network, name: str) -> Path | None:
    """A file of a network's evaluation; None where nobody has it."""
    return state.file(str(_folder(state, network) / name))


def _folder(state: State, network: Network) -> Path:
    """The folder that the state's own pipeline wrote: what an upgrade left lying elsewhere is not its evaluation."""
    outputs = locked(state)
    is_together = str(network.metrics) not in outputs and str(TOGETHER / network.metrics.name) in outputs
    return TOGETHER if is_together else network.evaluation
