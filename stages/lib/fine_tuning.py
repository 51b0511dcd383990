"""Training a classifier whose backbone is pretrained: the head first, then all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.lib.backbones import backbone_of
from stages.lib.classification import ClassifierStep
from stages.lib.runtime import tf


class FineTuningStep(ClassifierStep):
    """Trains the head alone for `frozen_steps`, then the whole network, the backbone at `finetune_lr` times the rate
    (Howard & Ruder 2018).

    The backbone is in inference mode throughout: batch norm keeps the statistics that it was pretrained with, which a
    few small batches would destroy, and nothing is dropped.
    """

    def __init__(self, model, *, frozen_steps: int, finetune_lr: float, **options):
        self.frozen_steps, self.finetune_lr = frozen_steps, finetune_lr
        super().__init__(model, **options)

    @property
    def parts(self) -> list[Sequence[Any]]:
        backbone = backbone_of(self.model).trainable_variables
        inside = {id(variable) for variable in backbone}
        return [[variable for variable in self.model.trainable_variables if id(variable) not in inside], backbone]

    def update(self, images, targets, index):
        head, backbone = self.optimizers
        head_variables, backbone_variables = self.parts
        rate = self.rate(index)

        def gradients_of(*parts):
            with tf.GradientTape() as tape:
                loss, logits = self.forward(images, targets, training=False)
                objective = head.scale_loss(loss)
            head.learning_rate.assign(rate)
            return loss, logits, tape.gradient(objective, parts)

        def update_head():
            loss, logits, (gradients,) = gradients_of(head_variables)
            head.apply(gradients, head_variables)
            return loss, logits

        def update_all():
            loss, logits, (head_gradients, gradients) = gradients_of(head_variables, backbone_variables)
            # Both scales are powers of two that shrink and grow on their own.
            scale = backbone.scale_loss(1.0) / head.scale_loss(1.0)
            head.apply(head_gradients, head_variables)
            backbone.learning_rate.assign(self.finetune_lr * rate)
            backbone.apply([scale * gradient for gradient in gradients], backbone_variables)
            return loss, logits

        return tf.cond(index < self.frozen_steps, update_head, update_all)
