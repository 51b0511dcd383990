"""stages.generator.step: what one step changes, and that nothing else does."""

from typing import Any, get_args

import numpy as np
import pytest

from stages.generator.losses import Loss
from stages.generator.networks import build_discriminator, build_generator
from stages.generator.step import AdversarialStep
from stages.training.tensorflow import seed_everything, tf

SHAPE, CLASSES = (8, 8, 3), 3
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 6, *SHAPE), dtype=np.uint8)
LABELS = tf.constant([0, 1, 2, 0, 1, 2])


def build(arch="conv", loss="relativistic", dtype="float32", seed=1, networks=None, **options) -> AdversarialStep:
    seed_everything(seed)
    common: dict[str, Any] = {"steps": 100, "lr": 1e-3, "schedule": "constant", "penalty": None, "penalty_every": 2}
    return AdversarialStep(
        build_generator(arch, SHAPE, CLASSES, 5, 4, True, dtype),
        build_discriminator(arch, SHAPE, CLASSES, 4, True, dtype, **(networks or {})),
        loss=loss,
        **(common | {"average": 0.9, "seed": 7} | options),
    )


def call(step: AdversarialStep, index: int) -> list[float]:
    return [float(value) for value in step(tf.constant(IMAGES[index]), LABELS, tf.constant(index, tf.int64))]


def values(holder) -> list[np.ndarray]:
    return [np.array(variable.numpy()) for variable in holder.variables]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


EVERYTHING: dict[str, Any] = {
    "loss": "hinge",
    "networks": {"spectral_norm": True, "minibatch_std": True},
    "discriminator_steps": 2,
    "discriminator_lr": 2e-3,
    "mismatch": 0.1,
    "classes": CLASSES,
    "feature_matching": 0.5,
    "diff_augment": ["colour", "translation", "cutout"],
    "ada_target": 0.1,
}


@pytest.mark.parametrize(
    "options",
    [
        {},
        EVERYTHING,
        EVERYTHING | {"arch": "dcgan", "dtype": "mixed_bfloat16"},
        {"arch": "dcgan", "loss": "bce", "real_label": 0.9, "diff_augment": ["translation"]},
        {"arch": "article", "loss": "lsgan", "discriminator_steps": 3},
        {"loss": "wgan"},
        {"loss": "wgan-gp", "dtype": "mixed_bfloat16"},
    ],
    ids=["default", "everything", "everything-dcgan-bfloat16", "dcgan", "article", "wgan", "wgan-gp"],
)
def test_taken_up_from_its_variables_it_goes_on_to_the_same_bytes(options):
    whole = build(**options)
    for index in range(3):
        call(whole, index)
    saved = values(whole)
    expected = [call(whole, index) for index in range(3, 6)]

    other = build(**options, seed=2)
    assert not same(values(other), saved)
    for variable, value in zip(other.variables, saved, strict=True):
        variable.assign(value)
    assert [call(other, index) for index in range(3, 6)] == expected
    assert same(values(other), values(whole))
    assert np.isfinite(expected).all()


@pytest.mark.parametrize(("arch", "loss"), [*(("conv", loss) for loss in get_args(Loss)), ("dcgan", "relativistic")])
def test_in_bfloat16_losses_are_those_of_float32_and_weights_stay_float32(arch, loss):
    steps = [build(arch, loss, dtype) for dtype in ("float32", "mixed_bfloat16")]
    found = [call(step, 0) for step in steps]
    assert found[1] == pytest.approx(found[0], rel=0.1, abs=0.1)
    assert {variable.dtype for variable in steps[1].discriminator.trainable_variables} == {"float32"}
    assert all(np.isfinite(value).all() for value in values(steps[1]))


def test_everything_together_runs_compiled_as_it_does_step_by_step():
    # An article's discriminator knows the labels before its features, where mismatch has nothing to compare.
    options = EVERYTHING | {"arch": "article", "mismatch": 0.0}
    eager, graph = build(**options), build(**options)
    compiled = tf.function(graph)
    for index in range(3):
        expected = call(eager, index)
        found = compiled(tf.constant(IMAGES[index]), LABELS, tf.constant(index, tf.int64))
        np.testing.assert_allclose([float(value) for value in found], expected, rtol=1e-3, atol=1e-3)


def test_the_generator_and_its_average_move_at_every_kth_call_only():
    step = build(discriminator_steps=3)
    moved = []
    for index in range(6):
        before = values(step.generator)[0], values(step.averaged.model)[0], values(step.discriminator)[0]
        call(step, index)
        after = values(step.generator)[0], values(step.averaged.model)[0], values(step.discriminator)[0]
        moved.append([not np.array_equal(a, b) for a, b in zip(before, after, strict=True)])
    assert moved == [[False, False, True], [False, False, True], [True, True, True]] * 2
    assert [int(optimizer.iterations.numpy()) for optimizer in step.optimizers] == [2, 6]


def test_each_network_has_its_learning_rate():
    step = build(lr=1e-3, discriminator_lr=1e-5, penalty=0)
    before = [values(network) for network in (step.generator, step.discriminator)]
    call(step, 0)
    for network, start, lr in zip((step.generator, step.discriminator), before, (1e-3, 1e-5), strict=True):
        kernels = [k for k, variable in enumerate(network.variables) if variable.name == "kernel"]
        # The first step of Adam with beta1 = 0 is the rate, whatever the gradient.
        assert max(abs(values(network)[k] - start[k]).max() for k in kernels) == pytest.approx(lr, rel=0.02)


def test_a_wgan_s_weights_are_clipped():
    step = build(loss="wgan", clip=0.02)
    call(step, 0)
    weights = [variable.numpy() for variable in step.discriminator.trainable_variables]
    assert max(abs(value).max() for value in weights) == pytest.approx(0.02)
    assert max(abs(v.numpy()).max() for v in step.generator.trainable_variables) > 0.02


def test_the_penalty_comes_every_other_step_with_twice_the_weight():
    with_penalty, without = build(penalty=1.0), build(penalty=0)
    for step in (with_penalty, without):
        call(step, 1)
    assert same(values(with_penalty.discriminator), values(without.discriminator))
    lazy, eager = build(penalty=0.5, penalty_every=2), build(penalty=1.0, penalty_every=1)
    for step in (lazy, eager):
        call(step, 0)
    assert same(values(lazy.discriminator), values(eager.discriminator))
    assert not same(values(lazy.discriminator), values(without.discriminator))


def test_the_loss_s_own_penalty():
    assert (build(loss="wgan-gp").penalty, build(loss="wgan-gp", penalty=0).penalty) == (10, 0)


def test_feature_matching_pulls_the_generated_images_towards_the_real_features():
    step, strong = build(loss="hinge"), build(loss="hinge", feature_matching=1e4)
    real = tf.cast(IMAGES[0], tf.float32) / 127.5 - 1.0
    fake = tf.constant(np.random.default_rng(1).uniform(-1, 1, real.shape).astype(np.float32))
    seeds = [tf.constant([0, 0], tf.int64)] * 2

    def distance(images):
        features = [step.logits_and_features([x, LABELS])[1] for x in (real, images)]
        return float(tf.reduce_sum((tf.reduce_mean(features[0], 0) - tf.reduce_mean(features[1], 0)) ** 2))

    plain, matching = (s._generator_gradients(real, fake, LABELS, None, seeds)[-1] for s in (step, strong))
    slope = (matching - plain) / 1e4  # by which the distance changes
    length = 1e-2 / tf.norm(slope)
    assert distance(fake - length * slope) - distance(fake) == pytest.approx(-1e-2 * float(tf.norm(slope)), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["conv", "dcgan"])
def test_by_mismatch_the_discriminator_learns_which_label_an_image_has(arch):
    def preference(step) -> float:
        """For the right labels, over wrong ones."""
        real = tf.cast(IMAGES[0], tf.float32) / 127.5 - 1.0
        right, wrong = (step.discriminator([real, labels]) for labels in (LABELS, (LABELS + 1) % CLASSES))
        return float(tf.reduce_mean(right - wrong))

    steps = [build(arch, lr=1e-2, mismatch=mismatch, classes=CLASSES) for mismatch in (0.0, 10.0)]
    for _ in range(20):
        for step in steps:
            call(step, 0)
    assert preference(steps[1]) > preference(steps[0]) + 1


def test_augmentation_changes_what_the_discriminator_sees_and_not_what_the_generator_makes():
    plain, augmented = build(loss="bce"), build(loss="bce", diff_augment=["cutout"])
    losses = [call(step, 0) for step in (plain, augmented)]
    assert losses[0][0] != losses[1][0]
    moving = [[v.numpy() for v in step.generator.non_trainable_variables] for step in (plain, augmented)]
    assert same(*moving)  # batch statistics of the same latents


def test_adaptive_augmentation_starts_without_any_and_rises_while_the_real_images_are_recognised():
    plain, adaptive = build(loss="wgan-gp"), build(loss="wgan-gp", diff_augment=["cutout"], ada_target=0.01)
    assert call(plain, 0)[0] == call(adaptive, 0)[0]
    probabilities = []
    for index in range(1, 5):
        call(adaptive, index)
        probabilities.append(float(adaptive.augment.probability.numpy()))
    assert probabilities[-1] > 0
    assert any(variable is adaptive.augment.probability for variable in adaptive.variables)


def test_smoothed_labels_reach_the_loss():
    plain, smooth = build(loss="lsgan"), build(loss="lsgan", real_label=0.8)
    d_loss, _, _, _ = call(plain, 0)
    assert call(smooth, 0)[0] != d_loss


def test_where_the_generator_rests_the_figures_are_those_before_the_update():
    step = build(loss="bce", discriminator_steps=2)
    d_loss, g_loss, d_real, d_fake = call(step, 0)
    assert np.isfinite([d_loss, g_loss, d_real, d_fake]).all()
    assert g_loss > 0
