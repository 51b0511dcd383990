"""An exponential moving average of a network's weights."""

from typing import Any

from stages.training.tensorflow import keras, tf


class AveragedNetwork:
    """A copy of `model` that holds the running average of its weights and batch statistics.

    The average starts at the initial weights, and the decay grows as (1 + t) / (10 + t) up to `decay`, so that the
    average is useful from the first steps. decay 0 makes it a plain copy.
    """

    def __init__(self, model, decay: float):
        self.decay = float(decay)
        self.source = model
        self.model = keras.models.clone_model(model)
        self.model.set_weights(model.get_weights())
        self.local_copy: Any = None

    @property
    def network(self):
        """The current average, as a network to use outside the training."""
        if not isinstance(self.model.weights[0].value, tf.distribute.DistributedValues):
            return self.model
        # A network whose weights lie on several replicas can only compute on all of them.
        self.local_copy = self.local_copy or keras.models.clone_model(self.model)
        self.local_copy.set_weights(self.model.get_weights())
        return self.local_copy

    def update(self, index) -> None:
        """Updates the average after step `index` (int64 scalar)."""
        t = tf.cast(index, tf.float32)
        rate = 1.0 - tf.minimum(self.decay, (1.0 + t) / (10.0 + t))
        for average, value in zip(self.model.weights, self.source.weights, strict=True):
            average.assign_add(rate * (value - average))
