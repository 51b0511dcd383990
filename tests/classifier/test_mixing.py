"""stages.classifier.mixing: mixup and cutmix by their statistics, and an exact resume with them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from stages.classifier.base.networks import build_classifier
from stages.classifier.base.step import ClassifierStep
from stages.classifier.mixing import Mixing
from stages.core.params import Params
from stages.running.terminal import Interrupted
from stages.training.checkpoints import Checkpoint
from stages.training.loop import train
from stages.training.tensorflow import seed_everything, tf
from tests.conftest import ROOT

COUNT, CLASSES = 500, 5
RANDOM = np.random.default_rng(0)
# A grey level of its own for each image, so that blends can be told apart.
LEVELS = RANDOM.integers(0, 256, COUNT)
IMAGES = np.broadcast_to(LEVELS[:, None, None, None], (COUNT, 12, 16, 1)).astype(np.uint8)
# Neighbours differ in their class, so that the target of one is its share.
TARGETS = np.eye(CLASSES, dtype=np.float32)[np.arange(COUNT) % CLASSES]


def mix(mixup: float, cutmix: float, index: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blended images, their targets, and the share of the image itself in them."""
    images, targets = Mixing(mixup, cutmix, seed)(
        tf.constant(IMAGES), tf.constant(TARGETS), tf.constant(index, tf.int64)
    )
    return images.numpy(), targets.numpy(), (targets.numpy() * TARGETS).sum(axis=1)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0), (0, 1), (0.4, 1)])
def test_images_stay_uint8_and_targets_are_shares_of_an_image_and_the_one_before(mixup, cutmix):
    images, targets, share = mix(mixup, cutmix)
    assert images.dtype == np.uint8
    assert images.shape == IMAGES.shape
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    expected = share[:, None] * TARGETS + (1 - share[:, None]) * np.roll(TARGETS, 1, axis=0)
    np.testing.assert_allclose(targets, expected, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_blends_every_pixel_with_shares_from_the_beta_distribution(alpha):
    images, _, share = mix(alpha, 0)
    expected = share * LEVELS + (1 - share) * np.roll(LEVELS, 1)
    np.testing.assert_allclose(images[:, 0, 0, 0], expected, atol=0.51)  # rounded
    assert (images == images[:, :1, :1]).all()
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_a_tiny_alpha_leaves_images_almost_alone_or_replaces_them():
    images, targets, share = mix(0.001, 0)
    assert np.isfinite(targets).all()
    assert np.mean((share < 0.01) | (share > 0.99)) > 0.95
    assert share.mean() == pytest.approx(0.5, abs=0.1)
    assert len(np.unique(images)) <= len(np.unique(IMAGES)) + 10


def test_cutmix_puts_a_box_of_one_image_into_another_and_the_target_is_its_area():
    images, _, share = mix(0, 1.0)
    foreign = images[..., 0] != IMAGES[..., 0]
    known = np.roll(LEVELS, 1) != LEVELS
    np.testing.assert_allclose(foreign[known].mean(axis=(1, 2)), 1 - share[known], atol=1e-6)
    assert (images[..., 0] == np.where(foreign, np.roll(LEVELS, 1)[:, None, None], LEVELS[:, None, None])).all()
    for box in foreign[known]:  # a box: the product of its rows and columns
        assert (box == np.outer(box.any(axis=1), box.any(axis=0))).all()
    sizes = np.stack([foreign[known].any(axis=2).sum(axis=1) / 12, foreign[known].any(axis=1).sum(axis=1) / 16])
    inner = (sizes > 0).all(axis=0)
    assert abs(np.median(sizes[0, inner] - sizes[1, inner])) < 0.05  # of the image's proportions
    # Each place is as likely to be covered as the one opposite, and the middle most.
    covered = foreign[known].mean(axis=0)
    assert abs(covered[:6].mean() - covered[6:].mean()) < 0.06
    assert covered[6, 8] > covered[0, 0] + 0.1


def test_uncut_boxes_have_the_area_that_was_drawn():
    images, _, _ = mix(0, 1.0)
    area = (images[..., 0] != IMAGES[..., 0]).mean(axis=(1, 2))
    # Uniform shares with boxes cut off at the rim: E[(1 - share)] is below 1/2, and far above 0.
    assert 0.2 < area.mean() < 0.4


def test_with_both_each_image_gets_one_of_the_two():
    images, _, _ = mix(1.0, 1.0)
    flat = (images == images[:, :1, :1]).all(axis=(1, 2, 3))
    both = {"mixed": flat.mean(), "cut": 1 - flat.mean()}
    assert both["mixed"] == pytest.approx(0.5, abs=0.12)  # a box that covers nothing or all counts as flat


def test_what_is_drawn_is_a_function_of_seed_and_index():
    first, again, later, other = mix(0.4, 1), mix(0.4, 1), mix(0.4, 1, index=1), mix(0.4, 1, seed=1)
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1].tobytes() == again[1].tobytes()
    assert (first[2] != later[2]).mean() > 0.9
    assert (first[2] != other[2]).mean() > 0.9


def test_a_batch_of_one_is_blended_with_itself():
    images, targets = Mixing(0.4, 1, 0)(tf.constant(IMAGES[:1]), tf.constant(TARGETS[:1]), tf.constant(0, tf.int64))
    np.testing.assert_array_equal(images, IMAGES[:1])
    np.testing.assert_allclose(targets, TARGETS[:1], atol=1e-6)


def make_step() -> ClassifierStep:
    seed_everything(0)
    return ClassifierStep(
        build_classifier("article", (10, 10, 1), 3, 4),
        steps=12,
        lr=0.01,
        schedule="cosine",
        weight_decay=0.01,
        beta_2=0.99,
        label_smoothing=0.1,
        average=0.9,
        mix=Mixing(0.4, 1, 3),
    )


@pytest.mark.slow
def test_a_training_with_it_that_was_stopped_ends_with_the_same_bytes(project):
    Path("dvc.yaml").write_text("stages: {toy: {deps: []}}\n")
    shutil.copy(ROOT / "versions.yaml", project)
    images = RANDOM.integers(0, 256, (48, 10, 10, 1), dtype=np.uint8)
    labels = RANDOM.integers(0, 3, 48).astype(np.int32)
    options: dict[str, Any] = {
        "batch_size": 8,
        "steps": 12,
        "report_every": 5,
        "seed": 1,
        "label": "toy",
        "divergence_hint": "",
    }

    def run(step: ClassifierStep, stop: bool = False) -> list[bytes]:
        checkpoint = Checkpoint("toy", Params(), {})
        with checkpoint:
            for _ in train(step, lambda epoch: [images], labels, checkpoint=checkpoint, **options):
                checkpoint.stop_requested = stop
        return [value.tobytes() for value in step.model.get_weights() + step.averaged.model.get_weights()]

    whole = run(make_step())
    with pytest.raises(Interrupted, match="saved after step 5 of 12"):
        run(make_step(), stop=True)
    assert run(make_step()) == whole


def test_the_loss_is_the_blend_of_both_labels_losses():
    step = make_step()
    step.model.get_layer("logits").set_weights([value * 0 for value in step.model.get_layer("logits").get_weights()])
    images, labels = IMAGES[:30, :10, :10], (np.arange(30) % 3).astype(np.int32)
    loss, _ = step(tf.constant(images), tf.constant(labels), tf.constant(0, tf.int64))
    assert float(loss) == pytest.approx(np.log(3), rel=1e-5)  # equal logits cost log 3 whatever the target
