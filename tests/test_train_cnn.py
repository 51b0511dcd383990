"""stages.train_cnn: its switches, and the bytes of the default."""

import shutil

import numpy as np
import pytest
import yaml

from stages import train_cnn
from stages.classifier.base.step import ClassifierStep
from stages.classifier.training import build_network, build_step, validation_scores
from stages.core.dataset import Images
from stages.core.params import load_params
from stages.running.terminal import UserError
from stages.train_cnn import CnnParams
from stages.training.network_files import load_network
from stages.training.tensorflow import compute_dtype
from tests.conftest import ROOT, tiny_ingest

DEFAULTS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["cnn"]
LABELS = np.array([0, 0, 0, 1, 1, 2], np.int32)
OFF = {
    "optimizer": "adamw",
    "mixup": 0,
    "cutmix": 0,
    "class_weights": "none",
    "test_views": "none",
    "depth": 1,
}


def params(**changes) -> CnnParams:
    return CnnParams(**(DEFAULTS | {"width": 4} | changes))


def step(**changes) -> ClassifierStep:
    return build_step(params(**changes), (16, 16, 1), LABELS, 3, per_epoch=5)


def test_what_is_optional_is_off_by_default():
    assert {name: DEFAULTS[name] for name in OFF} == OFF


@pytest.mark.parametrize("arch", ["compact", "efficientnetv2-b0", "convnext_tiny", "mobilenetv3small", "vgg", "vgg16"])
def test_networks_that_it_knows(arch):
    assert params(arch=arch).arch == arch


def test_an_unknown_network_gets_the_nearest_names(project):
    text = (project / "params.yaml").read_text().replace("arch: compact", "arch: efficientnet-v2b0")
    (project / "params.yaml").write_text(text.replace("efficientnet-v2b0", "efficientnetv2-bo"))
    with pytest.raises(UserError) as error:
        load_params(CnnParams, "cnn")
    assert "`cnn.arch` is 'efficientnetv2-bo': input should be compact, article, vgg, resnet or a network of" in str(
        error.value
    )
    assert "; the closest names are efficientnetv2" in str(error.value)


def test_every_switch_reaches_the_step():
    plain = step()
    assert type(plain) is ClassifierStep
    assert (plain.mix, plain.class_weights, len(plain.optimizers)) == (None, None, 1)
    assert plain.model.dtype_policy.name == compute_dtype("auto")
    full = step(
        optimizer="sgd", momentum=0.5, mixup=0.2, cutmix=1, class_weights="balanced", seed=7, arch="vgg", depth=2
    )
    assert type(full.optimizers[0]).__name__ == "SGD"
    assert (full.optimizers[0].momentum, full.optimizers[0].nesterov) == (0.5, True)
    assert (full.mix.mixup, full.mix.cutmix, full.mix.seed) == (0.2, 1, 7)  # type: ignore[union-attr]
    assert full.class_weights == pytest.approx([2 / 3, 1, 2], rel=1e-6)
    assert len(full.model.layers) > len(step(arch="vgg").model.layers)
    assert step(precision="float32").model.dtype_policy.name == "float32"


def test_a_backbone_from_scratch_is_never_frozen():
    assert type(step(arch="mobilenetv3small", weights="none")) is ClassifierStep


def test_a_network_and_its_copy_in_float32_have_the_same_weights():
    for arch in ("compact", "resnet", "mobilenetv3small"):
        model = step(arch=arch, weights="none").model
        copy = build_network(params(arch=arch), (16, 16, 1), 3)
        assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]


def test_the_saved_network_sees_the_views_and_metrics_are_its_own(project):
    for name in ("dvc.yaml", "versions.yaml"):
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / "stages", project / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    folder = tiny_ingest(project, train=20, size=16)
    for view in ("view-00", "view-01"):
        (project / "data/augment" / view).mkdir(parents=True)
        for shard in folder.glob("train-*.npy"):
            shutil.copy(shard, project / "data/augment" / view)
    document = yaml.safe_load((project / "params.yaml").read_text())
    document["cnn"] |= {"width": 4, "epochs": 2, "batch_size": 16, "test_views": "flip_shift"}
    document["cnn"] |= {
        "optimizer": "sgd",
        "mixup": 0.2,
        "cutmix": 1,
        "class_weights": "balanced",
        "schedule": "cosine",
    }
    (project / "params.yaml").write_text(yaml.safe_dump(document))
    train_cnn.main()
    network = load_network("data/train_cnn/model.keras")
    assert network.get_layer("trunk").get_layer("features") is not None
    scores = validation_scores(network, Images(folder, "val"), np.tile(np.arange(3), 4))
    saved = yaml.safe_load((project / "data/train_cnn/metrics.json").read_text())["cnn"]
    assert {name: saved[name] for name in scores} == {name: round(value, 6) for name, value in scores.items()}
    assert sorted(path.name for path in (project / "data/train_cnn").iterdir()) == [
        "curves.png",
        "history.csv",
        "metrics.json",
        "model.keras",
    ]
