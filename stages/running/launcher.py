"""Which of several processes this one is, as its launcher says in the environment: TF_CONFIG, which Kubernetes'
training operator sets, or the variables of a Slurm step."""

import json
import os
from typing import Any

from stages.running.terminal import UserError

EXAMPLE = '{"cluster": {"worker": ["host-a:2222", "host-b:2222"]}, "task": {"type": "worker", "index": 0}}'


def tf_config() -> dict[str, Any]:
    """TF_CONFIG, or {} when it names no more than one worker. Raises UserError when it cannot be read."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        found = json.loads(text or "{}")
        cluster = {kind: list(hosts) for kind, hosts in found.get("cluster", {}).items()}
        if not cluster:
            return {}
        kind, index = found["task"]["type"], int(found["task"]["index"])
        known = set(cluster) <= {"chief", "worker"} and 0 <= index < len(cluster[kind])
    except (ValueError, KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise UserError(
            f"TF_CONFIG is {text!r}, expected a cluster of `worker`, and maybe a `chief`, and this task, like {EXAMPLE}"
        )
    return found if sum(map(len, cluster.values())) > 1 else {}


def slurm_tasks() -> int:
    """The number of tasks of the Slurm step that this process belongs to; 0 outside of one."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "0")) if "SLURM_PROCID" in os.environ else 0


def is_chief() -> bool:
    """Whether this is the one of the processes that writes: the first, or the only one."""
    config = tf_config()
    if config:
        kind, index = config["task"]["type"], int(config["task"]["index"])
        return kind == "chief" or (index == 0 and "chief" not in config["cluster"])
    return slurm_tasks() <= 1 or os.environ["SLURM_PROCID"] == "0"
