"""Which of several processes this one is, by the environment that its launcher sets: TF_CONFIG, as set by Kubernetes'
training operator, or the variables of a Slurm step."""

import json
import os
from typing import Any

from stages.running.terminal import UserError

EXAMPLE = '{"cluster": {"worker": ["host-a:2222", "host-b:2222"]}, "task": {"type": "worker", "index": 0}}'


def tf_config() -> dict[str, Any]:
    """TF_CONFIG, or {} when it names at most one worker. Raises UserError when it is not valid."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text or "{}")
        cluster = {kind: list(hosts) for kind, hosts in config.get("cluster", {}).items()}
        if not cluster:
            return {}
        kind, index = config["task"]["type"], int(config["task"]["index"])
        valid = set(cluster) <= {"chief", "worker"} and 0 <= index < len(cluster[kind])
    except (ValueError, KeyError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise UserError(
            f"TF_CONFIG is {text!r}, expected a cluster of `worker`, optionally a `chief`, and a task, as in {EXAMPLE}"
        )
    return config if sum(map(len, cluster.values())) > 1 else {}


def slurm_tasks() -> int:
    """The number of tasks of the Slurm step that this process belongs to; 0 outside of one."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "0")) if "SLURM_PROCID" in os.environ else 0


def is_chief() -> bool:
    """Whether this process is the one that writes outputs: the first, or the only one."""
    config = tf_config()
    if config:
        kind, index = config["task"]["type"], int(config["task"]["index"])
        return kind == "chief" or (index == 0 and "chief" not in config["cluster"])
    return slurm_tasks() <= 1 or os.environ["SLURM_PROCID"] == "0"
