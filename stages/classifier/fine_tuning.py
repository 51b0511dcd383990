"""Training a classifier whose backbone is pretrained: the head first, then the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from stages.classifier.backbones import backbone_of
from stages.classifier.base.step import ClassifierStep
from stages.training.distribution import scale_for_replicas
from stages.training.tensorflow import tf


class FineTuningStep(ClassifierStep):
    """Trains only the head for `frozen_steps`, then the whole network, the backbone at `finetune_lr` times the rate
    (Howard & Ruder 2018).

    The backbone is in inference mode throughout: batch norm keeps the statistics of the pretraining, which a few small
    batches would destroy, and dropout is off.
    """

    def __init__(self, model, *, frozen_steps: int, finetune_lr: float, **options):
        self.frozen_steps, self.finetune_lr = frozen_steps, finetune_lr
        super().__init__(model, **options)

    @property
    def variable_groups(self) -> list[Sequence[Any]]:
        backbone = backbone_of(self.model).trainable_variables
        backbone_ids = {id(variable) for variable in backbone}
        return [[variable for variable in self.model.trainable_variables if id(variable) not in backbone_ids], backbone]

    @property
    def variants(self):
        return [partial(self._step, self.update_head), partial(self._step, self.update_all)]

    def variant(self, index):
        return tf.cast(index >= self.frozen_steps, tf.int32)

    def update_head(self, images, targets, index):
        loss, logits, (gradients,) = self._gradients(images, targets, index, self.variable_groups[:1])
        self.optimizers[0].apply(gradients, self.variable_groups[0])
        return loss, logits

    def update_all(self, images, targets, index):
        (head, backbone), groups = self.optimizers, self.variable_groups
        loss, logits, (head_gradients, gradients) = self._gradients(images, targets, index, groups)
        # The loss scales of the two optimizers are powers of two that adapt independently.
        scale = backbone.scale_loss(1.0) / head.scale_loss(1.0)
        head.apply(head_gradients, groups[0])
        backbone.learning_rate.assign(self.finetune_lr * self.rate(index))
        backbone.apply([scale * gradient for gradient in gradients], groups[1])
        return loss, logits

    def _gradients(self, images, targets, index, groups):
        """Loss, logits and the gradients, in the loss scale of the head's optimizer; sets its learning rate."""
        head = self.optimizers[0]
        with tf.GradientTape() as tape:
            loss, logits = self.forward(images, targets, training=False)
            objective = scale_for_replicas(head.scale_loss(loss))
        head.learning_rate.assign(self.rate(index))
        return loss, logits, tape.gradient(objective, groups)
