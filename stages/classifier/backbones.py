"""Networks of keras.applications as classifiers: for photographs, and pretrained on ImageNet where that helps."""

from __future__ import annotations

import ast
import difflib
import re
import sys
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from stages.running.terminal import UserError
from stages.training.tensorflow import compute_in, keras

Weights = Literal["imagenet", "none"]
SMALLEST_INPUT = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}  # px; 32 for the others


@cache
def backbone_names() -> dict[str, str]:
    """The functions of keras.applications, by their names in lower case; parsed from its source, because importing it
    takes seconds."""
    spec = find_spec("keras")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "applications/__init__.py").read_text(encoding="utf-8")
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    names = [each.name for node in imports for each in node.names if (node.module or "").startswith("keras.src.")]
    return {name.lower(): name for name in names}


def find_backbone(name: str) -> str | None:
    """The function of keras.applications with this name, in any case and with or without the hyphens and underscores of
    Keras' model names (`efficientnetv2-b0`, `convnext_tiny`); None when there is none."""
    return backbone_names().get(re.sub(r"[-_]", "", name.lower()))


def check_arch(name: object, own: tuple[str, ...]) -> str:
    """Returns `name` when it is one of `own` or a backbone. Raises ValueError with `own` and the closest names."""
    if isinstance(name, str) and (name in own or find_backbone(name)):
        return name
    near = difflib.get_close_matches(str(name).lower(), [*own, *backbone_names()], n=3, cutoff=0.5)
    hint = f"; the closest names are {', '.join(near)}" if near else ""
    raise ValueError(f"input should be {', '.join(own)} or a network of keras.applications{hint}")


def build_backbone_classifier(
    arch: str,
    shape: tuple[int, int, int],
    classes: int,
    *,
    weights: Weights,
    side: int | None = None,
    dtype: str = "float32",
):
    """A Keras model from uint8 [n, *shape] to float32 logits [n, classes] around a network of keras.applications.

    Inside, grey images are repeated to three channels, all are resized to `side` px (bilinear; None keeps their size
    unless the network needs more) and scaled as its weights expect. dtype is its dtype policy.
    Raises UserError when the weights cannot be downloaded.
    """
    name = find_backbone(arch)
    assert name is not None
    layers, function = keras.layers, getattr(keras.applications, name)
    side = max(side or shape[0], SMALLEST_INPUT.get(name, 32))
    with compute_in(dtype):
        inputs = keras.Input(shape, dtype="uint8", name="images")
        x = layers.Rescaling(1.0, dtype="float32")(inputs)
        x = layers.Concatenate(dtype="float32")([x, x, x]) if shape[2] == 1 else x
        x = layers.Resizing(side, side, dtype="float32")(x) if side != shape[0] else x
        x = sys.modules[function.__module__].preprocess_input(x)
        options = {"include_top": False, "input_shape": (side, side, 3)}
        try:
            with warnings.catch_warnings():
                # Keras warns where it has no weights of this size and loads those of its default size.
                warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square")
                backbone = function(weights=None if weights == "none" else weights, **options)
        except Exception as error:  # Keras raises no more specific one
            if not re.search(r"URL fetch failure|file hash does not match", str(error)):
                raise
            raise UserError(
                f"the ImageNet weights of {name} could not be downloaded ({error}): connect this machine to "
                "the network, or set cnn.weights to none to train from scratch"
            ) from error
        if weights == "none":
            for layer in backbone.layers:
                if isinstance(layer, layers.BatchNormalization):
                    layer.momentum = 0.9  # with Keras' own 0.99 and 0.999 the statistics lag thousands of steps behind
        # Inference unless the caller passes `training`: for a nested network Keras has no such default.
        features = layers.GlobalAveragePooling2D(name="features")(backbone(x, training=False))
        return keras.Model(inputs, layers.Dense(classes, dtype="float32", name="logits")(features))


def backbone_of(model):
    """The network of keras.applications inside a classifier."""
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))
