"""stages.classifier.backbones: every network of keras.applications builds, loads in safe mode, and says so when it
cannot."""

import os
import subprocess
import sys

import numpy as np
import pytest

from stages.classifier.backbones import (
    SMALLEST_INPUT,
    backbone_names,
    backbone_of,
    build_backbone_classifier,
    check_arch,
    find_backbone,
)
from stages.classifier.base.step import ClassifierStep
from stages.training.network_files import load_network, save_network
from stages.training.tensorflow import keras, seed_everything, tf
from tests.classifier.test_view_averaging import LOAD
from tests.conftest import ROOT

RANDOM = np.random.default_rng(0)
# One of each module of keras.applications, the smallest.
ONE_OF_EACH = [
    "convnext_tiny",
    "densenet121",
    "efficientnetb0",
    "efficientnetv2-b0",
    "inception_resnet_v2",
    "inception_v3",
    "mobilenet",
    "mobilenetv2",
    "mobilenetv3small",
    "nasnet_mobile",
    "resnet50",
    "resnet50v2",
    "vgg16",
    "vgg19",
    "xception",
]


def test_the_names_are_those_of_keras_applications():
    names = backbone_names()
    functions = {name for name in dir(keras.applications) if callable(getattr(keras.applications, name))}
    assert set(names.values()) == functions
    assert len(names) > 30
    assert set(SMALLEST_INPUT) <= functions


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("efficientnetv2-b0", "EfficientNetV2B0"),
        ("efficientnetv2b0", "EfficientNetV2B0"),
        ("convnext_tiny", "ConvNeXtTiny"),
        ("mobilenetv3small", "MobileNetV3Small"),
        ("MobileNetV3Small", "MobileNetV3Small"),
        ("nasnet_mobile", "NASNetMobile"),
        ("resnet50", "ResNet50"),
        ("resnet", None),
        ("imagenet_utils", None),
        ("efficientnet-v2", None),
    ],
)
def test_a_name_may_be_the_function_s_or_the_model_s(name, function):
    assert find_backbone(name) == function


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("efficentnetv2-b0", "efficientnetv2b0"), ("convnext-tinny", "convnexttiny"), ("compct", "compact")],
)
def test_an_unknown_name_gets_the_nearest_ones(name, nearest):
    with pytest.raises(ValueError, match=rf"compact, vgg or a network of keras.applications; .*{nearest}"):
        check_arch(name, ("compact", "vgg"))


@pytest.mark.parametrize("name", [None, 3, [], "", "zzzzz", "\n"])
def test_what_is_no_name_at_all(name):
    with pytest.raises(ValueError, match=r"or a network of keras.applications$"):
        check_arch(name, ("compact", "vgg"))


def classifier(arch: str = "mobilenetv3small", side: int = 16, channels: int = 1, input_side=None, dtype="float32"):
    seed_everything(0)
    return build_backbone_classifier(arch, (side, side, channels), 4, weights="none", side=input_side, dtype=dtype)


@pytest.mark.parametrize(("channels", "side", "dtype"), [(1, None, "float32"), (3, 40, "mixed_bfloat16")])
def test_uint8_images_of_any_kind_to_logits(channels, side, dtype):
    network = classifier(channels=channels, input_side=side, dtype=dtype)
    images = RANDOM.integers(0, 256, (3, 16, 16, channels), dtype=np.uint8)
    assert tuple(network(images).shape) == (3, 4)
    np.testing.assert_allclose(network(images), network.predict(images, verbose=0), atol=1e-6)  # inference
    assert (network(images, training=True).numpy() != network(images).numpy()).any()
    assert network.output.dtype == "float32"
    assert network.layers[-2].name == "features"
    assert backbone_of(network).input_shape == (None, side or 32, side or 32, 3)
    assert {weight.dtype for weight in network.weights} == {"float32"}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "arch", ["mobilenetv3small", "vgg16"]
)  # takes 0 to 255; takes blue, green, red less their mean
def test_images_reach_the_backbone_as_it_takes_them(arch, channels):
    network = classifier(arch, side=32, channels=channels)
    images = RANDOM.integers(0, 256, (2, 32, 32, channels), dtype=np.uint8)
    module = sys.modules[getattr(keras.applications, str(find_backbone(arch))).__module__]
    colour = np.repeat(images, 3, axis=-1) if channels == 1 else images
    expected = module.preprocess_input(colour.astype(np.float32))
    if arch == "vgg16":
        np.testing.assert_allclose(expected, colour[..., ::-1] - [103.939, 116.779, 123.68], atol=1e-4)
    features = backbone_of(network)(expected)
    pooled = keras.Model(network.input, network.get_layer("features").output)(images)
    np.testing.assert_allclose(pooled, tf.reduce_mean(features, axis=(1, 2)), rtol=1e-4, atol=1e-5)


def test_weights_that_cannot_be_downloaded_are_one_clear_sentence(tmp_path):
    # A proxy that nobody runs stands for a machine without a network; an empty cache for one without the weights.
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    environment |= {"https_proxy": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    code = """
from stages.classifier.backbones import build_backbone_classifier
from stages.running.terminal import run_stage
run_stage(lambda: build_backbone_classifier("mobilenetv3small", (16, 16, 1), 4, weights="imagenet"))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    start = "error: the ImageNet weights of MobileNetV3Small could not be downloaded (URL fetch failure on https://"
    assert done.stderr.startswith(start)
    assert done.stderr.endswith("or set cnn.weights to none to train from scratch\n")
    assert done.stderr.count("\n") == 1


def test_a_mistake_that_is_no_download_is_not_hidden():
    with pytest.raises(ValueError, match="incompatible with the layer"):
        build_backbone_classifier("mobilenetv3small", (16, 16, 2), 4, weights="none")


def test_the_statistics_of_one_from_scratch_keep_up_with_a_short_training():
    batch_norms = [m for m in backbone_of(classifier()).layers if isinstance(m, keras.layers.BatchNormalization)]
    assert len(batch_norms) > 20
    assert {layer.momentum for layer in batch_norms} == {0.9}


@pytest.mark.long
def test_from_scratch_it_learns():
    network = classifier()
    step = ClassifierStep(
        network,
        steps=100,
        lr=5e-3,
        schedule="one_cycle",
        weight_decay=0.0,
        beta_2=0.99,
        label_smoothing=0.0,
        average=0.0,
    )
    images = RANDOM.integers(0, 100, (32, 16, 16, 1), dtype=np.uint8)
    labels = np.arange(32, dtype=np.int32) % 4
    for image, label in zip(images, labels, strict=True):
        image[4 * label : 4 * label + 4] += 150
    run = tf.function(step)
    losses = [float(run(images, labels, tf.constant(i, tf.int64))[0]) for i in range(100)]
    assert losses[-1] < 0.2 * losses[0]
    assert (network(images).numpy().argmax(axis=1) == labels).mean() > 0.9


def test_it_comes_back_from_a_file_in_safe_mode(tmp_path):
    network = classifier("vgg16")  # whose preprocessing needs the most operations
    save_network(network, tmp_path / "model.keras")
    images = RANDOM.integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)
    np.testing.assert_array_equal(load_network(tmp_path / "model.keras")(images), network(images))


@pytest.mark.long
@pytest.mark.parametrize("arch", ONE_OF_EACH)
def test_it_loads_in_safe_mode_in_a_process_that_knows_keras_alone(arch, tmp_path):
    network = classifier(arch)
    assert backbone_of(network).input_shape[1] == SMALLEST_INPUT.get(find_backbone(arch) or "", 32)
    images = RANDOM.integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)
    save_network(network, tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    arguments = [sys.executable, "-c", LOAD, *(tmp_path / name for name in ("model.keras", "images.npy", "logits.npy"))]
    subprocess.run(arguments, cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(
        np.load(tmp_path / "logits.npy"), network.predict(images, verbose=0), rtol=1e-6, atol=1e-6
    )


def test_one_of_each_module_is_tried():
    modules = {getattr(keras.applications, find_backbone(arch) or "").__module__ for arch in ONE_OF_EACH}
    assert modules == {getattr(keras.applications, name).__module__ for name in backbone_names().values()}
