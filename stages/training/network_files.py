"""Keras networks on disk: the same weights give the same bytes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from stages.training.tensorflow import keras

LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold


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
            target.writestr(zipfile.ZipInfo(name, LONG_AGO), content)
    dated.unlink()


def _number_shared_objects(config: bytes) -> bytes:
    """Keras marks objects that several layers share, such as their dtype policy, with their memory address; here they
    are numbered in the order in which they occur."""
    numbers: dict[int, int] = {}

    def number(part: dict[str, Any]) -> dict[str, Any]:
        if "shared_object_id" in part:
            part["shared_object_id"] = numbers.setdefault(part["shared_object_id"], len(numbers) + 1)
        return part

    return json.dumps(json.loads(config, object_hook=number)).encode()


def load_network(path: str | Path):
    """Reads a `.keras` file; code inside it is refused."""
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def copy_in_float32(network, build):
    """A network from `build()` with the weights of `network`, to compute and save in float32 whatever it trained in."""
    twin = build()
    twin.set_weights(network.get_weights())
    return twin
