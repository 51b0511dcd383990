"""What a network brings to the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from stages.training.tensorflow import tf


class Step(ABC):
    """One update of a network's weights.

    `metrics` names what a call returns. A step that does not do the same every time lists its `variants`, of which
    `variant(index)` tells the one: outside of them, as replicas cannot wait for each other inside a branch of a graph.
    """

    metrics: tuple[str, ...]

    @property
    @abstractmethod
    def variables(self) -> list[Any]:
        """All that a call changes: weights, averages, optimisers' and random generators' state."""

    @property
    @abstractmethod
    def variants(self) -> Sequence[Callable[[Any, Any, Any], tuple[Any, ...]]]:
        """Each takes images uint8 [batch, height, width, channels], labels int32 [batch] and index int64 [], and
        returns a scalar for each of `metrics`."""

    def variant(self, index) -> Any:
        """Which of the variants step `index` is, int32 []."""
        return 0

    def __call__(self, images, labels, index):
        return choose([partial(variant, images, labels, index) for variant in self.variants], self.variant(index))


def choose(branches: Sequence[Callable[[], Any]], which):
    """What one of the branches returns."""
    return tf.switch_case(which, branches) if len(branches) > 1 else branches[0]()
