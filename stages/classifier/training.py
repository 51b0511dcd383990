"""Training the classifier that the params of `cnn` define: its network, its step, and its epochs up to the best one.

`params` are always CnnParams, see stages/train_cnn.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from stages.classifier.backbones import Weights, build_backbone_classifier, find_backbone
from stages.classifier.base.networks import SMALLEST_SIDE, build_classifier
from stages.classifier.base.step import ClassifierStep, balanced_weights
from stages.classifier.data import ClassifierData
from stages.classifier.fine_tuning import FineTuningStep
from stages.classifier.mixing import Mixing
from stages.classifier.view_averaging import average_over_views
from stages.core.dataset import Images
from stages.running.terminal import UserError
from stages.training import distribution
from stages.training.checkpoints import Checkpoint
from stages.training.loop import steps_per_epoch, train
from stages.training.network_files import copy_in_float32
from stages.training.reports import History
from stages.training.scores import accuracy, negative_log_likelihood, softmax
from stages.training.tensorflow import compute_dtype, seed_everything


def build_network(params: Any, shape, classes: int, *, dtype: str = "float32", weights: Weights = "none"):
    """The network for uint8 images [n, *shape]; only backbones use `weights`."""
    if params.arch in SMALLEST_SIDE:
        return build_classifier(params.arch, shape, classes, params.width, dtype, params.depth)
    side = params.backbone_size
    return build_backbone_classifier(params.arch, shape, classes, weights=weights, side=side, dtype=dtype)


def build_step(params: Any, shape, labels: np.ndarray, classes: int, per_epoch: int) -> ClassifierStep:
    """The training step of the network; labels int [n] of the train images, `per_epoch` steps per epoch."""
    dtype = compute_dtype(params.precision, scales_loss=distribution.replicas() == 1)
    model = build_network(params, shape, classes, dtype=dtype, weights=params.weights)
    build: Any = ClassifierStep
    if find_backbone(params.arch) and params.weights == "imagenet":
        frozen_steps = params.frozen_epochs * per_epoch
        build = partial(FineTuningStep, frozen_steps=frozen_steps, finetune_lr=params.finetune_lr)
    return build(
        model,
        steps=params.epochs * per_epoch,
        lr=params.lr,
        schedule=params.schedule,
        optimizer=params.optimizer,
        weight_decay=params.weight_decay,
        beta_2=params.beta_2,
        momentum=params.momentum,
        label_smoothing=params.label_smoothing,
        average=params.average,
        class_weights=balanced_weights(labels, classes) if params.class_weights == "balanced" else None,
        mix=Mixing(params.mixup, params.cutmix, params.seed) if params.mixup or params.cutmix else None,
    )


def validation_scores(network, images: Images, labels: np.ndarray) -> dict[str, float]:
    """Accuracy and negative log-likelihood (nats) of a classifier on images with labels [n]."""
    probabilities = softmax(images.predict(network))
    return {
        "val_accuracy": accuracy(probabilities, labels),
        "val_nll": negative_log_likelihood(probabilities, labels),
    }


class ClassifierTraining:
    """One training, which adds each epoch to `history`. Build it inside distribution.joined.

    Raises UserError for float16 on several replicas.
    """

    def __init__(self, params: Any, data: ClassifierData, history: History):
        if params.precision == "float16" and distribution.replicas() > 1:
            raise UserError("cnn.precision float16 scales the loss, which works on one GPU only: set it to auto")
        self.params, self.data, self.history = params, data, history
        self.batch_size = min(params.batch_size, len(data.labels))
        self.per_epoch = steps_per_epoch(data.views[0], self.batch_size)
        seed_everything(params.seed)
        with distribution.strategy().scope():
            self.step = build_step(params, data.shape, data.labels, data.classes, self.per_epoch)

    def epochs(self, checkpoint: Checkpoint) -> Iterator[tuple[int, dict[str, float]]]:
        """Trains, and yields the number of each epoch (1, 2, ...) with the means of its metrics and the scores of the
        averaged network on the validation images. Stops early when `val_nll` did not improve for `patience` epochs."""
        params, data = self.params, self.data
        for report in train(
            self.step,
            lambda epoch: data.views[epoch % len(data.views)],
            data.labels,
            batch_size=self.batch_size,
            steps=params.epochs * self.per_epoch,
            report_every=self.per_epoch,
            seed=params.seed,
            label="train cnn",
            divergence_hint="lower cnn.lr",
            checkpoint=checkpoint,
        ):
            network = self.step.averaged.network
            scores = distribution.from_chief(partial(validation_scores, network, data.val_images, data.val_labels))
            epoch = len(self.history.rows) + 1
            self.history.add({"epoch": epoch} | report.means | scores, epoch, scores["val_nll"], network)
            yield epoch, report.means | scores
            if params.patience and epoch - self.history.best_at >= params.patience:
                return

    def result(self) -> tuple[Any, dict[str, float]]:
        """The network of the best epoch, in float32 and with averaging over `test_views`, and its metrics."""
        network = self.step.averaged.network
        network.set_weights(self.history.best_weights)
        network = copy_in_float32(network, lambda: build_network(self.params, self.data.shape, self.data.classes))
        network = average_over_views(network, self.params.test_views)
        scores = validation_scores(network, self.data.val_images, self.data.val_labels)
        return network, scores | {"best_epoch": self.history.best_at, "weights": network.count_params()}
