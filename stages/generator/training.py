"""Training the generator that the params of `gan` define: both networks, their step, and the evaluations.

`params` are always GanParams, see stages/train_gan.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stages.generator.data import GeneratorData
from stages.generator.networks import build_discriminator, build_generator
from stages.generator.regularisers import SPECTRALLY_NORMALISED
from stages.generator.samples import Samples
from stages.generator.step import AdversarialStep
from stages.generator.validation import GeneratorHistory, Space, Validation
from stages.running.launcher import is_chief
from stages.training import distribution
from stages.training.checkpoints import Checkpoint
from stages.training.loop import train
from stages.training.network_files import copy_in_float32
from stages.training.tensorflow import compute_dtype, seed_everything


def build_network(params: Any, shape, classes: int, dtype: str = "float32"):
    """The generator of images [n, *shape]."""
    return build_generator(params.arch, shape, classes, params.latent_dim, params.width, params.conditional, dtype)


def build_step(params: Any, shape, classes: int) -> AdversarialStep:
    """The training step of both networks."""
    dtype = compute_dtype(params.precision)
    generator = build_network(params, shape, classes, dtype)
    spectral_norm = params.spectral_norm == "always"
    spectral_norm |= params.spectral_norm == "auto" and params.loss in SPECTRALLY_NORMALISED
    discriminator = build_discriminator(
        params.arch,
        shape,
        classes,
        params.width,
        params.conditional,
        dtype,
        batch_norm=params.loss not in ("wgan", "wgan-gp"),  # these need a score of each image by itself
        spectral_norm=spectral_norm,
        minibatch_std=params.minibatch_std,
    )
    has_match_layer = params.conditional and classes > 1 and params.arch != "article"
    return AdversarialStep(
        generator,
        discriminator,
        steps=params.steps,
        loss=params.loss,
        lr=params.lr,
        discriminator_lr=params.discriminator_lr,
        discriminator_steps=params.discriminator_steps,
        schedule=params.schedule,
        penalty=params.penalty,
        penalty_every=params.penalty_every,
        clip=params.clip,
        mismatch=params.mismatch if has_match_layer else 0.0,
        classes=classes,
        feature_matching=params.feature_matching,
        real_label=params.real_label,
        diff_augment=params.diff_augment,
        ada_target=params.ada_target,
        average=params.average,
        seed=params.seed,
    )


class GeneratorTraining:
    """One training, which adds each evaluation to `history`. Build it inside distribution.joined."""

    def __init__(self, params: Any, data: GeneratorData, space: Space, history: GeneratorHistory):
        self.params, self.data, self.history = params, data, history
        options = {"latent_dim": params.latent_dim, "conditional": params.conditional, "seed": params.seed}
        self.samples = Samples(data.classes, **options)
        self.validation = Validation(
            space, data.val_images, data.val_labels, evaluate_images=params.evaluate_images, **options
        )
        seed_everything(params.seed)
        with distribution.strategy().scope():
            self.step = build_step(params, data.shape, len(data.classes))

    def evaluations(self, checkpoint: Checkpoint) -> Iterator[tuple[int, dict[str, float]]]:
        """Trains, and yields the step of each evaluation with the means of the metrics since the previous one and the
        scores of the averaged generator. Only the chief evaluates; the other processes only train."""
        params = self.params
        for report in train(
            self.step,
            lambda epoch: self.data.shards,
            self.data.labels,
            batch_size=min(params.batch_size, len(self.data.labels)),
            steps=params.steps,
            report_every=params.evaluate_every,
            seed=params.seed,
            label="train gan",
            divergence_hint="lower gan.lr or raise gan.penalty",
            checkpoint=checkpoint,
        ):
            if not is_chief():
                continue
            averaged = self.step.averaged.network
            scores = self.validation.scores(averaged)
            self.history.samples.append(self.samples.generate(averaged))
            self.history.add({"step": report.step} | report.means | scores, report.step, scores["val_fd"], averaged)
            yield report.step, report.means | scores

    def result(self) -> tuple[Any, dict[str, float]]:
        """The generator of the best evaluation, in float32, and its metrics."""
        averaged = self.step.averaged.network
        averaged.set_weights(self.history.best_weights)
        network = copy_in_float32(averaged, lambda: build_network(self.params, self.data.shape, len(self.data.classes)))
        scores = self.validation.scores(network)
        return network, scores | {"best_step": self.history.best_at, "weights": network.count_params()}
