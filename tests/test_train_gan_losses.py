"""Every loss trains on handwritten digits without collapse."""

from typing import Any, get_args

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.spatial.distance import pdist
from sklearn.datasets import load_digits

from stages.generator.losses import Loss
from stages.generator.sampling import generate
from stages.generator.training import build_step
from stages.generator.validation import Validation
from stages.reference_network.features import ReferenceSpace
from stages.reference_network.training import ReferenceTraining
from stages.train_gan import GanParams
from stages.training.loop import train
from stages.training.network_files import save_network
from stages.training.tensorflow import seed_everything
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SMALL = {"width": 16, "steps": 300, "evaluate_every": 300, "precision": "float32"}
# What goes with a loss; the rest is the default.
SETTINGS: dict[str, dict[str, Any]] = {"wgan": {"clip": 0.03}}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [1797, 16, 16, 1] and int32 [1797]."""
    found = load_digits()
    small = np.round(found.images * 255 / 16).astype(np.uint8)
    images = np.stack(
        [np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)) for image in small]
    )
    return images[..., None], found.target.astype(np.int32)


@pytest.fixture(scope="module")
def space(digits, tmp_path_factory) -> ReferenceSpace:
    images, labels = digits
    training = ReferenceTraining([images[300:]], labels[300:], 10, steps=150, batch_size=64, lr=5e-3, seed=0)
    assert len(list(training.reports("reference", ""))) > 0
    path = tmp_path_factory.mktemp("reference") / "model.keras"
    save_network(training.network, path)
    return ReferenceSpace(path)


@pytest.mark.parametrize("loss", get_args(Loss))
def test_it_comes_to_a_fifth_of_the_distance_and_keeps_half_the_diversity(loss, digits, space):
    images, labels = digits
    defaults = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["gan"]
    params = GanParams(**(defaults | SMALL | SETTINGS.get(loss, {}) | {"loss": loss}))
    validation = Validation(
        space,
        images[:300],
        labels[:300],
        evaluate_images=params.evaluate_images,
        latent_dim=params.latent_dim,
        conditional=params.conditional,
        seed=params.seed,
    )
    seed_everything(params.seed)
    step = build_step(params, images.shape[1:], 10)
    generator = step.averaged.model
    before = validation.scores(generator)
    options: dict[str, Any] = {"steps": params.steps, "report_every": params.evaluate_every, "seed": params.seed}
    for _ in train(
        step,
        lambda epoch: [images[300:]],
        labels[300:],
        batch_size=params.batch_size,
        label="gan",
        divergence_hint="",
        **options,
    ):
        after = validation.scores(generator)
    batch = generate(generator, validation.latents[:64], validation.labels[:64]).reshape(64, -1)
    real = images[:300][np.random.default_rng(params.seed).permutation(300)[:64]].reshape(64, -1)
    within = pdist(batch.astype(float)).mean() / pdist(real.astype(float)).mean()
    print(
        f"{loss}: Frechet distance {before['val_fd']:.1f} -> {after['val_fd']:.1f} "
        f"({after['val_fd'] / before['val_fd']:.3f}), distance within a batch {within:.2f}, within a class "
        f"{after['val_diversity']:.2f} of that of real images, {after['val_label_accuracy']:.0%} as labelled"
    )
    assert after["val_fd"] <= before["val_fd"] / 5
    assert within >= 0.5
    assert after["val_diversity"] >= 0.5
