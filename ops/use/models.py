"""Which network `ops.use.generate` and `ops.use.predict` use: a registered version, or a file with what belongs to it.

Nothing here imports TensorFlow, and MLflow only for a registered version: a mistyped name is reported at once.
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
    """A network with what makes it usable."""

    description: str  # what it is, for people
    network: Path
    classes: list[str]
    serving: Path | None  # of a classifier, see stages/serving/classifier/bundle.py
    layers: list[dict[str, Any]]  # as Keras describes them in the file

    @property
    def input_shapes(self) -> list[list[int]]:
        """Of one image or one row of latents."""
        return [layer["config"]["batch_shape"][1:] for layer in self.layers if layer["class_name"] == "InputLayer"]

    @property
    def conditional(self) -> bool:
        """Whether a generator's class makes a difference."""
        return any(layer["class_name"] == "Embedding" for layer in self.layers)


def model_help(network: Network) -> str:
    """The help text of the option --model."""
    return (
        "models:/NAME@ALIAS, models:/NAME/VERSION or a .keras file with classes.json beside it; default: "
        f"models:/{network.model}@champion, else @candidate, else {network.file}"
    )


@contextmanager
def find_model(network: Network, asked: str | None) -> Iterator[Model]:
    """Yields the model that `asked` names, by default the champion of the registered model, else its candidate, else
    the file that the pipeline has made. The copy of a registered one lasts as long as the block.

    Raises UserError when it is not there, damaged, or the wrong kind of network.
    """
    if asked is not None and not asked.startswith("models:"):
        yield _checked(network, _from_file(network, Path(asked), asked))
        return
    with registry.mlflow_errors_as_user_errors():
        found = _newest(network.model) if asked is None else _registered(asked)
    if found is None:
        path, because = network.file, f"no version of {network.model} is champion or candidate in MLflow"
        if not path.exists():
            raise UserError(f"{because}, and there is no {path}: run `dvc repro`, or name a model with --model")
        yield _checked(network, _from_file(network, path, f"{path} ({because})"))
        return
    version, alias = found
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        path, classes = registry.download_version(version, Path(folder))
        serving = path.with_name("serving.npz")
        description = f"version {version.number} of {version.model}" + (f" ({alias})" if alias else "")
        model = Model(description, path, classes, serving if serving.exists() else None, _layers(path))
        yield _checked(network, model)


def _newest(name: str) -> tuple[Version, str] | None:
    if registry.exists():
        for alias in ("champion", "candidate"):
            if version := registry.aliased(name, alias):
                return version, alias
    return None


def _registered(asked: str) -> tuple[Version, str]:
    parts = REGISTERED.fullmatch(asked)
    if not parts:
        raise UserError(
            f"{asked} is not a model address: expected models:/NAME@ALIAS, models:/NAME/VERSION or a .keras file"
        )
    name, alias = parts["name"], parts["alias"] or ""
    versions = registry.versions(name)
    if alias:
        version = registry.aliased(name, alias)
    else:
        version = next((one for one in versions if one.number == int(parts["number"])), None)
    if version is None:
        there = ", ".join(str(one.number) for one in versions[:20])
        raise UserError(f"{asked} is not in MLflow; " + (f"there are versions {there}" if there else f"no {name} is"))
    return version, alias


def _from_file(network: Network, path: Path, description: str) -> Model:
    """A network file with classes.json and serving.npz beside it, or where the pipeline has them from there."""
    if not path.is_file():
        name = network.model
        raise UserError(f"{path} not found: expected a .keras file, models:/{name}@ALIAS or models:/{name}/VERSION")
    layers, root = _layers(path), path.absolute().parent.parent
    classes, serving = (
        next((folder / file for folder in (path.parent, root / stage) if (folder / file).is_file()), None)
        for file, stage in (("classes.json", "ingest"), ("serving.npz", network.evaluate_stage))
    )
    if classes is None:
        raise UserError(f"{path} has no classes.json beside it: a list of the class names, in the order of the labels")
    try:
        names = json.loads(classes.read_text(encoding="utf-8"))
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise UserError(f"{classes} is no list of class names")
    return Model(description, path, names, serving, layers)


def _layers(path: Path) -> list[dict[str, Any]]:
    try:
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():
                raise UserError(f"{path} is damaged: {damaged} in it is not what was saved")
            return json.loads(file.read("config.json"))["config"]["layers"]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError):
        raise UserError(f"{path} is not a network that Keras saved, or damaged") from None


def _checked(network: Network, model: Model) -> Model:
    """The model, when it takes what `network` takes."""
    ranks = [len(shape) for shape in model.input_shapes]
    if sorted(ranks) != sorted(network.input_ranks):
        raise UserError(f"{model.description} is not {network.article}")
    known = {layer["config"]["input_dim"] for layer in model.layers if layer["class_name"] == "Embedding"}
    if known and known != {len(model.classes)}:
        raise UserError(
            f"{model.description} was trained on {max(known)} classes, and {len(model.classes)} are named for it"
        )
    return model
