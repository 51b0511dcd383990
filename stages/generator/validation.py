"""Evaluates a generator during training, and warns when it collapses or diverges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from stages.core.dataset import Images
from stages.generator.collapse import diversity, warning
from stages.generator.distances import frechet_distance
from stages.generator.sampling import draw_latents, generate
from stages.running.terminal import say
from stages.running.tracking.record import Run
from stages.training.reports import History
from stages.training.scores import accuracy

# From images uint8 [n, height, width, channels] to features float [n, d] and class probabilities [n, classes].
Space = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass
class GeneratorHistory(History):
    """The evaluations of a generator, with their samples and whether a warning was printed."""

    samples: list[np.ndarray] = field(default_factory=list)  # of each evaluation, uint8 [n, height, width, channels]
    warned: bool = False


class Validation:
    """The validation images in the space of the reference network, and equally many fixed latents to score generators.

    images: uint8 [n, height, width, channels], of which at most `evaluate_images` are used; labels: int [n].
    conditional: whether the generators depend on the label.
    """

    def __init__(
        self,
        space: Space,
        images: Images | np.ndarray,
        labels: np.ndarray,
        *,
        evaluate_images: int,
        latent_dim: int,
        conditional: bool,
        seed: int,
    ):
        chosen = np.random.default_rng(seed).permutation(len(labels))[:evaluate_images]
        self.space, self.labels = space, labels[chosen]
        self.real_features, _ = self.space(images[chosen])
        self.latents = draw_latents(len(chosen), latent_dim, seed + 1)
        self.groups = self.labels if conditional else np.zeros_like(self.labels)

    def scores(self, generator) -> dict[str, float]:
        """Frechet distance to the real images, diversity relative to theirs, and the share of the images that the
        reference classifies as their label."""
        features, probabilities = self.space(generate(generator, self.latents, self.labels))
        return {
            "val_fd": frechet_distance(features, self.real_features),
            "val_diversity": diversity(features, self.real_features, self.groups),
            "val_label_accuracy": accuracy(probabilities, self.labels),
        }


def warn_once(history: GeneratorHistory, steps: int, run: Run) -> None:
    """Prints the first warning of a training and tags the run with it. steps: of the whole training."""
    text = warning(history.rows, steps)
    if text and not history.warned:
        history.warned = True
        say(f"warning: {text}")
        run.tags({"warning": text})
