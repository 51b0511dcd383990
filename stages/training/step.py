"""The interface between a network and the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from stages.training.tensorflow import tf


class Step(ABC):
    """One update of a network's weights.

    `metrics` names the values that a call returns. A step that differs between calls lists its `variants`, and
    `variant(index)` selects one of them. The loop branches outside the replicas' computations, because replicas cannot
    wait for each other inside a branch of a graph.
    """

    metrics: tuple[str, ...]

    @property
    @abstractmethod
    def variables(self) -> list[Any]:
        """Everything that a call changes: weights, averages, and the state of optimisers and random generators."""

    @property
    @abstractmethod
    def variants(self) -> Sequence[Callable[[Any, Any, Any], tuple[Any, ...]]]:
        """Each takes images uint8 [batch, height, width, channels], labels int32 [batch] and index int64 [], and
        returns a scalar for each of `metrics`."""

    def variant(self, index) -> Any:
        """The number of the variant for step `index`, int32 []."""
        return 0

    def __call__(self, images, labels, index):
        return choose([partial(variant, images, labels, index) for variant in self.variants], self.variant(index))


def choose(branches: Sequence[Callable[[], Any]], which):
    """Calls branch number `which` and returns its result."""
    return tf.switch_case(which, branches) if len(branches) > 1 else branches[0]()
