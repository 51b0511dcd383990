"""Finds the evaluation results of a state of the project: metrics and files."""

import json
from pathlib import Path

from ops.project.networks import NETWORKS
from ops.project.revisions import State, locked
from stages.serving.registry.network import Network

# In older commits, one stage evaluated both networks and wrote here.
JOINT_EVALUATION = Path("data/evaluate")


def recorded_metrics(state: State) -> dict[str, dict[str, float]]:
    """The metrics by section and name; without the networks that were not evaluated."""
    found = {}
    for section, network in NETWORKS.items():
        metrics = json.loads(state.text(str(_folder(state, network) / "metrics.json")) or "{}")
        if section in metrics:
            found[section] = metrics[section]
    return found


def evaluation_file(state: State, network: Network, name: str) -> Path | None:
    """A file of a network's evaluation; None when neither this machine nor the remote has it."""
    return state.file(str(_folder(state, network) / name))


def _folder(state: State, network: Network) -> Path:
    """The folder that the state's own pipeline wrote; files that an upgrade left elsewhere are not its evaluation."""
    outputs = locked(state)
    is_joint = str(network.metrics) not in outputs and str(JOINT_EVALUATION / network.metrics.name) in outputs
    return JOINT_EVALUATION if is_joint else network.evaluation
