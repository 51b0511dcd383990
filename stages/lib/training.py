"""The one training loop: steps compiled into one graph, over shards of uint8 images, in an order set by (seed, epoch).

A network brings only its step: a callable `step(images, labels, index)` that updates the weights and returns one scalar
tensor per name in `step.metrics`. Randomness inside a step is drawn from (seed, index), so a run is a plain function of
its inputs and can be taken up at any step.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from stages.lib.checkpoints import Checkpoint
from stages.lib.runtime import tf
from stages.lib.terminal import Interrupted, Progress, UserError

# Images are shuffled within this many randomly drawn shards at a time, and a data set of no more shards as a whole.
# With shards of 64 MiB that is 512 MiB; while one group replaces another, up to three times as much is held.
SHARDS_IN_MEMORY = 8
STEPS_PER_CALL = 16  # between two looks at the losses, at the progress bar and at signals


class Step(Protocol):
    """One update of a network's weights."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what a call returns."""

    @property
    def variables(self) -> list[Any]:
        """All that a call changes: weights, averages, optimisers' and random generators' state."""

    def __call__(self, images: Any, labels: Any, index: Any) -> tuple[Any, ...]:
        """images uint8 [batch, height, width, channels], labels int32 [batch], index int64 [] -> scalars."""


@dataclass(frozen=True)
class Report:
    """What the loop says every `report_every` steps: steps done, epochs done, means of the step's metrics since."""

    step: int
    epoch: float
    means: dict[str, float]


def steps_per_epoch(shards: Sequence[np.ndarray], batch_size: int) -> int:
    """Batches in one pass over the shards: as many as every drawing of the groups that are in memory can fill."""
    groups = math.ceil(len(shards) / SHARDS_IN_MEMORY)
    return max(0, sum(map(len, shards)) // batch_size - (groups - 1))


def train(
    step: Step,
    shards: Callable[[int], Sequence[np.ndarray]],
    labels: np.ndarray,
    *,
    batch_size: int,
    steps: int,
    report_every: int,
    seed: int,
    what: str,
    blame: str,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Report]:
    """Runs `steps` steps and yields a Report every `report_every` of them and after the last.

    shards: the uint8 [n, height, width, channels] arrays that an epoch (0, 1, ...) reads; labels: int, in order.
    what: the name on the progress bar. blame: the params to look at when a loss is not finite.
    checkpoint: where to save the state now and then, and to take it up from; its memory is the caller's, who may change
    it until the next report is asked for.
    Raises UserError when a loss becomes NaN or infinite, and when there are fewer images than one batch, and
    Interrupted once the state is saved after SIGTERM or Ctrl-C.
    """

    image = tf.TensorSpec([None, *shards(0)[0].shape[1:]], tf.uint8)
    numbers, batch_numbers = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, batch_size], tf.int32)

    # One graph for windows and calls of any length: compiling it takes a second.
    @tf.function(input_signature=[image, numbers, batch_numbers, tf.TensorSpec([], tf.int64)])
    def run_steps(images, labels, batches, first):
        totals = tf.zeros([len(step.metrics)])
        for i in tf.range(tf.shape(batches)[0]):
            batch = batches[i]
            values = step(tf.gather(images, batch), tf.gather(labels, batch), first + tf.cast(i, tf.int64))
            totals += tf.stack([tf.cast(value, tf.float32) for value in values])
        return totals

    per_epoch = steps_per_epoch(shards(0), batch_size)
    if per_epoch == 0:
        count = sum(len(shard) for shard in shards(0))
        raise UserError(
            f"{what} has {count} training images, fewer than one batch of {batch_size}: lower the batch size"
        )
    done, since_report, totals = 0, 0, np.zeros(len(step.metrics))
    if checkpoint:
        done, progress = checkpoint.restore(step.variables)
        if done:
            since_report, totals = progress["since_report"], np.array(progress["totals"])
            print(f"  {what}: going on after step {done} of {steps}", flush=True)
    with Progress(what, total=steps, unit="steps", done=done) as bar:
        for epoch in range(done // per_epoch, math.ceil(steps / per_epoch)):
            start = epoch * per_epoch  # the step at which the window starts
            for images, window_labels, batches in _windows(shards(epoch), labels, batch_size, seed, epoch):
                start, batches = start + len(batches), batches[max(0, done - start) :]
                images, window_labels = tf.constant(images), tf.constant(window_labels, tf.int32)
                while len(batches) and done < steps:
                    count = min(STEPS_PER_CALL, len(batches), steps - done, report_every - since_report)
                    first = tf.constant(done, tf.int64)
                    sums = run_steps(images, window_labels, tf.constant(batches[:count]), first).numpy()
                    batches, totals = batches[count:], totals + sums
                    done, since_report = done + count, since_report + count
                    if not np.isfinite(sums).all():
                        bad = [name for name, value in zip(step.metrics, sums, strict=True) if not np.isfinite(value)]
                        raise UserError(f"{' and '.join(bad)} became not finite in step {done} of {steps}: {blame}")
                    bar.note(", ".join(f"{n} {v / count:.3f}" for n, v in zip(step.metrics, sums, strict=True)))
                    bar.advance(count)
                    if since_report == report_every or done == steps:
                        means = dict(zip(step.metrics, (totals / since_report).tolist(), strict=True))
                        yield Report(done, done / per_epoch, means)
                        since_report, totals = 0, np.zeros(len(step.metrics))
                    if checkpoint and checkpoint.is_due():
                        checkpoint.save(step.variables, done, {"since_report": since_report, "totals": totals.tolist()})
                        if checkpoint.stop_requested:
                            raise Interrupted(f"saved after step {done} of {steps}: `dvc repro` goes on from there")


def _windows(shards: Sequence[np.ndarray], labels: np.ndarray, batch_size: int, seed: int, epoch: int):
    """Yields images, labels and the indices of the batches, int32 [batches, batch_size], of a group of shards."""
    random = np.random.default_rng([seed, epoch])
    left = steps_per_epoch(shards, batch_size)
    starts = np.cumsum([0, *(len(shard) for shard in shards)])
    drawn = random.permutation(len(shards))
    for group in (drawn[i : i + SHARDS_IN_MEMORY] for i in range(0, len(drawn), SHARDS_IN_MEMORY)):
        images = np.concatenate([shards[k] for k in group])
        window_labels = np.concatenate([labels[starts[k] : starts[k + 1]] for k in group])
        count = min(len(images) // batch_size, left)
        left -= count
        order = random.permutation(len(images))[: count * batch_size].astype(np.int32)
        yield images, window_labels, order.reshape(count, batch_size)
