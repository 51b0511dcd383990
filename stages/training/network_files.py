"""Keras networks on disk: the same weights give the same bytes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from stages.training.tensorflow import keras

EARLIEST_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def save_network(network, path: str | Path) -> None:
    """Writes a `.keras` file without the times and memory addresses that Keras puts into it."""
    path = Path(path)
    dated = path.with_name(f"dated-{path.name}")
    keras.saving.save_model(network, dated)
    with zipfile.ZipFile(dated) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "metadata.json":
                content = json.dumps(json.loads(content) | {"date_saved": ""}, sort_keys=True).encode()
            if name == "config.json":
                content = _number_shared_objects(content)
            target.writestr(zipfile.ZipInfo(name, EARLIEST_ZIP_TIME), content)
    dated.unlink()


def _number_shared_objects(config: bytes) -> bytes:
    """Replaces the memory addresses by which Keras identifies objects that several layers share, such as their dtype
    policy, with numbers in order of occurrence."""
    numbers: dict[int, int] = {}

    def number(part: dict[str, Any]) -> dict[str, Any]:
        if "shared_object_id" in part:
            part["shared_object_id"] = numbers.setdefault(part["shared_object_id"], len(numbers) + 1)
        return part

    return json.dumps(json.loads(config, object_hook=number)).encode()


def load_network(path: str | Path):
    """Reads a `.keras` file; refuses code inside it."""
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def copy_in_float32(network, build):
    """Copies the weights of `network`, trained in any precision, to the float32 network that `build()` returns."""
    copy = build()
    copy.set_weights(network.get_weights())
    return copy
