"""Finds the network that predict and generate use: a registered version, or a file with its companions.

Does not import TensorFlow, and MLflow only for a registered version, so that a mistyped name is reported at once.
"""

import json
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ops.project import registry
from ops.project.registry import Version
from stages.running.terminal import UserError
from stages.serving.registry.network import Network

REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<number>\d+))")


class Model(NamedTuple):
    """A network with the data that its use needs."""

    description: str  # for messages
    network: Path
    classes: list[str]
    serving: Path | None  # of a classifier, see stages/serving/classifier/bundle.py
    layers: list[dict[str, Any]]  # as Keras describes them in the file

    @property
    def input_shapes(self) -> list[list[int]]:
        """The input shapes of a single example, such as an image or a latent."""
        return [layer["config"]["batch_shape"][1:] for layer in self.layers if layer["class_name"] == "InputLayer"]

    @property
    def conditional(self) -> bool:
        """Whether a generator has classes."""
        return any(layer["class_name"] == "Embedding" for layer in self.layers)


@contextmanager
def find_model(network: Network, address: str | None) -> Iterator[Model]:
    """Yields the model at `address`, by default the champion of the registered model, else its candidate, else the
    pipeline's own file. A registered version is copied for the duration of the block.

    Raises UserError when it is missing, damaged, or the wrong kind of network.
    """
    if address is not None and not address.startswith("models:"):
        yield _checked(network, _from_file(network, Path(address), address))
        return
    with registry.mlflow_errors_as_user_errors():
        found = _default_version(network.model) if address is None else _registered(address)
    if found is None:
        path, reason = network.file, f"no version of {network.model} is champion or candidate in MLflow"
        if not path.exists():
            raise UserError(f"{reason}, and there is no {path}: run `dvc repro`, or name a model with --model")
        yield _checked(network, _from_file(network, path, f"{path} ({reason})"))
        return
    version, alias = found
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        path, classes = registry.download_version(version, Path(folder))
        serving = path.with_name("serving.npz")
        description = f"version {version.number} of {version.model}" + (f" ({alias})" if alias else "")
        model = Model(description, path, classes, serving if serving.exists() else None, _layers(path))
        yield _checked(network, model)


def _default_version(name: str) -> tuple[Version, str] | None:
    if registry.exists():
        for alias in ("champion", "candidate"):
            if version := registry.aliased(name, alias):
                return version, alias
    return None


def _registered(address: str) -> tuple[Version, str]:
    parts = REGISTERED.fullmatch(address)
    if not parts:
        raise UserError(
            f"{address} is not a model address: expected models:/NAME@ALIAS, models:/NAME/VERSION or a .keras file"
        )
    name, alias = parts["name"], parts["alias"] or ""
    versions = registry.versions(name)
    if alias:
        version = registry.aliased(name, alias)
    else:
        version = next((each for each in versions if each.number == int(parts["number"])), None)
    if version is None:
        numbers = ", ".join(str(each.number) for each in versions[:20])
        existing = f"{name} has the versions {numbers}" if numbers else f"there is no model {name}"
        raise UserError(f"{address} is not in MLflow: {existing}")
    return version, alias


def _from_file(network: Network, path: Path, description: str) -> Model:
    """A network file with classes.json and serving.npz from its own folder, or from the pipeline's output folders."""
    if not path.is_file():
        name = network.model
        raise UserError(f"{path} not found: expected a .keras file, models:/{name}@ALIAS or models:/{name}/VERSION")
    layers, root = _layers(path), path.absolute().parent.parent
    classes, serving = (
        next((folder / file for folder in (path.parent, root / stage) if (folder / file).is_file()), None)
        for file, stage in (("classes.json", "ingest"), ("serving.npz", network.evaluate_stage))
    )
    if classes is None:
        raise UserError(
            f"there is no classes.json next to {path}: put one there, a list of the class names in the order of labels"
        )
    try:
        names = json.loads(classes.read_text(encoding="utf-8"))
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise UserError(f'{classes} is not a list of class names: expected JSON such as ["cat", "dog"]')
    return Model(description, path, names, serving, layers)


def _layers(path: Path) -> list[dict[str, Any]]:
    try:
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():
                raise UserError(f"{path} is damaged: its part {damaged} has changed since it was saved")
            return json.loads(file.read("config.json"))["config"]["layers"]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError):
        raise UserError(f"{path} is damaged or not a network saved by Keras: expected a .keras file") from None


def _checked(network: Network, model: Model) -> Model:
    """Returns the model. Raises UserError when its inputs or its number of classes are wrong for `network`."""
    ranks = [len(shape) for shape in model.input_shapes]
    if sorted(ranks) != sorted(network.input_ranks):
        raise UserError(f"{model.description} is not {network.phrase}")
    known = {layer["config"]["input_dim"] for layer in model.layers if layer["class_name"] == "Embedding"}
    if known and known != {len(model.classes)}:
        raise UserError(
            f"{model.description} was trained on {max(known)} classes, but its classes.json names {len(model.classes)}"
        )
    return model
