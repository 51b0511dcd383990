"""The environment that shapes the bytes of a training: the processor, its threads, GPUs and package versions."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from stages.training.tensorflow import compute_dtype, tf

# oneDNN and Eigen choose their kernels by these processor features.
KERNEL_FEATURES = ("sse4", "avx", "fma", "f16c", "amx", "bf16", "asimd", "sve")


def fingerprint() -> dict[str, Any]:
    """Equal fingerprints promise equal bytes; plain values, so that two can be compared and printed."""
    cpuinfo = Path("/proc/cpuinfo")
    flags: set[str] = set()
    if cpuinfo.exists():
        lines = [
            line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith(("flags", "Features"))
        ]
        flags = set(lines[0].partition(":")[2].split()) if lines else set()
    packages = yaml.safe_load(Path("versions.yaml").read_text(encoding="utf-8"))
    return {
        "processor": platform.machine(),
        "processor_features": sorted(flag for flag in flags if any(feature in flag for feature in KERNEL_FEATURES)),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "precision_auto": compute_dtype("auto"),
        "gpus": [
            tf.config.experimental.get_device_details(gpu).get("device_name", "unknown")
            for gpu in tf.config.list_physical_devices("GPU")
        ],
        "packages": {name: version(name) for name in sorted(packages)},
    }
