"""The one training loop: steps compiled into one graph, over shards of uint8 images, in an order set by (seed, epoch).

A network brings only its step (see steps.py). Randomness inside a step is drawn from (seed, index), so a run is a plain
function of its inputs and can be taken up at any step. On several GPUs or machines (see distribution.py) every process
runs this loop, and each replica computes its rows of each batch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from stages.lib import distribution
from stages.lib.checkpoints import Checkpoint
from stages.lib.dataset import pick
from stages.lib.runtime import tf
from stages.lib.steps import Step, choose
from stages.lib.terminal import Interrupted, Progress, UserError, say

# Images are shuffled within this many randomly drawn shards at a time, and a data set of no more shards as a whole: the
# system keeps so much of the disk at hand (with shards of 64 MiB 512 MiB), and this process the images of one call.
SHARDS_AT_A_TIME = 8
STEPS_PER_CALL = 16  # between two looks at the losses, at the progress bar and at signals


@dataclass(frozen=True)
class Report:
    """What the loop says every `report_every` steps: steps done, epochs done, means of the step's metrics since."""

    step: int
    epoch: float
    means: dict[str, float]


def steps_per_epoch(shards: Sequence[np.ndarray], batch_size: int) -> int:
    """Batches in one pass over the shards: as many as the groups of shards can fill."""
    groups = math.ceil(len(shards) / SHARDS_AT_A_TIME)
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
    Raises UserError when a loss becomes NaN or infinite, when there are fewer images than one batch, and when a worker
    of several is lost, and Interrupted once the state is saved after SIGTERM or Ctrl-C.
    """

    image_batches = tf.TensorSpec([None, batch_size, *shards(0)[0].shape[1:]], tf.uint8)
    label_batches = tf.TensorSpec([None, batch_size], tf.int32)

    strategy, variants = distribution.strategy(), step.variants
    add, mean = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN

    def run_variant(variant, images, labels, index):
        def run_replica():
            values = variant(distribution.own_rows(images), distribution.own_rows(labels), index)
            return tf.stack([tf.cast(value, tf.float32) for value in values])

        return strategy.reduce(mean, strategy.run(run_replica), axis=None)

    # One graph for calls of any length: compiling it takes seconds.
    @tf.function(input_signature=[image_batches, label_batches, tf.TensorSpec([], tf.int64), tf.TensorSpec([])])
    def run_steps(images, labels, first, wish):
        """The sums of the metrics, and of the wishes of all workers."""
        totals = tf.zeros([len(step.metrics)])
        for i in tf.range(tf.shape(labels)[0]):
            index = first + tf.cast(i, tf.int64)
            branches = [partial(run_variant, variant, images[i], labels[i], index) for variant in variants]
            totals += choose(branches, step.variant(index))
        return totals, strategy.reduce(add, strategy.run(lambda: tf.identity(wish)), axis=None)

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
            say(f"{what}: going on after step {done} of {steps}")
    with Progress(what, total=steps, unit="steps", done=done) as bar:
        for epoch in range(done // per_epoch, math.ceil(steps / per_epoch)):
            start = epoch * per_epoch  # the step at which the window starts
            read = shards(epoch)
            for batches in _windows(read, batch_size, seed, epoch):
                start, batches = start + len(batches), batches[max(0, done - start) :]
                while len(batches) and done < steps:
                    count = min(STEPS_PER_CALL, len(batches), steps - done, report_every - since_report)
                    wish = tf.constant(1.0 if checkpoint and checkpoint.stop_requested else 0.0)
                    chosen = batches[:count]
                    images = pick(read, chosen.ravel())
                    images = tf.constant(images.reshape(count, batch_size, *images.shape[1:]))
                    with distribution.losses_of_workers_told():
                        results = run_steps(
                            images, tf.constant(labels[chosen], tf.int32), tf.constant(done, tf.int64), wish
                        )
                        sums, wishes = (result.numpy() for result in results)
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
                    # Several workers stop together, at the end of a call at whose start one of them wished to.
                    stop = checkpoint and (wishes > 0 if distribution.has_peers() else checkpoint.stop_requested)
                    if checkpoint and (stop or checkpoint.is_due()):
                        checkpoint.save(step.variables, done, {"since_report": since_report, "totals": totals.tolist()})
                        if stop:
                            raise Interrupted(f"saved after step {done} of {steps}: `dvc repro` goes on from there")


def _windows(shards: Sequence[np.ndarray], batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Yields the batches of a group of shards: positions int64 [batches, batch_size] in all shards put end to end."""
    random = np.random.default_rng([seed, epoch])
    left = steps_per_epoch(shards, batch_size)
    starts = np.cumsum([0, *(len(shard) for shard in shards)])
    drawn = random.permutation(len(shards))
    for group in (drawn[i : i + SHARDS_AT_A_TIME] for i in range(0, len(drawn), SHARDS_AT_A_TIME)):
        positions = np.concatenate([np.arange(starts[k], starts[k + 1]) for k in group])
        count = min(len(positions) // batch_size, left)
        left -= count
        yield positions[random.permutation(len(positions))[: count * batch_size]].reshape(count, batch_size)
