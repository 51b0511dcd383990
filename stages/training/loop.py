"""The one training loop: steps compiled into one graph, over shards of uint8 images, in an order set by (seed, epoch).

A network provides only its step (see step.py). A step draws random numbers from (seed, index), so a run is a plain
function of its inputs and can be resumed at any step. On several GPUs or machines (see distribution.py) every process
runs this loop, and each replica computes its rows of each batch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from stages.core.dataset import pick
from stages.running.terminal import Interrupted, Progress, UserError, say
from stages.training import distribution
from stages.training.checkpoints import Checkpoint
from stages.training.reports import Report
from stages.training.step import Step, choose
from stages.training.tensorflow import tf

# Images are shuffled within groups of this many randomly drawn shards, and a data set of no more shards as a whole. The
# page cache needs to hold one group (512 MiB with shards of 64 MiB), and this process the images of one call.
SHARDS_AT_A_TIME = 8
STEPS_PER_CALL = 16  # between two checks of the losses and of signals


def steps_per_epoch(shards: Sequence[np.ndarray], batch_size: int) -> int:
    """Batches in one pass over the shards: the number that groups of shards fill in any order."""
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
    label: str,
    divergence_hint: str,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Report]:
    """Runs `steps` steps and yields a Report after every `report_every` steps and after the last.

    shards: the uint8 [n, height, width, channels] arrays that an epoch (0, 1, ...) reads; labels: int, in order.
    label: the name on the progress bar. divergence_hint: what to change when a loss is not finite.
    checkpoint: saves the state periodically, and holds the state to resume from; its memory belongs to the caller, who
    may change it until requesting the next report.
    Raises UserError when a loss becomes NaN or infinite, when there are fewer images than one batch, and when a worker
    is lost; raises Interrupted on SIGTERM or Ctrl-C, after saving the state.
    """
    per_epoch, shape = _measure_epoch(shards(0), batch_size, label)
    run_steps = _compile(step, batch_size, shape)
    done, since_report, totals = 0, 0, np.zeros(len(step.metrics))
    if checkpoint:
        done, progress = checkpoint.restore(step.variables)
        if done:
            since_report, totals = progress["since_report"], np.array(progress["totals"])
            say(f"{label}: resuming at step {done} of {steps}")
    with Progress(label, total=steps, unit="steps", done=done) as bar:
        for read, positions in _calls(shards, per_epoch, batch_size, steps, report_every, seed, done):
            stop_vote = 1.0 if checkpoint and checkpoint.stop_requested else 0.0
            images = pick(read, positions.ravel()).reshape(*positions.shape, *shape)
            with distribution.lost_workers_as_user_error():
                sums, stop_votes = run_steps(images, labels[positions], done, stop_vote)
            count = len(positions)
            done, since_report, totals = done + count, since_report + count, totals + sums
            if bad := [name for name, value in zip(step.metrics, sums, strict=True) if not np.isfinite(value)]:
                raise UserError(
                    f"{' and '.join(bad)} became NaN or infinite by step {done} of {steps}: {divergence_hint}"
                )
            bar.note(", ".join(f"{name} {value / count:.3f}" for name, value in zip(step.metrics, sums, strict=True)))
            bar.advance(count)
            if done % report_every == 0 or done == steps:
                means = dict(zip(step.metrics, (totals / since_report).tolist(), strict=True))
                yield Report(done, done / per_epoch, means)
                since_report, totals = 0, np.zeros(len(step.metrics))
            if checkpoint:
                # Several workers stop together, after a call at whose start at least one of them voted to stop.
                stop = stop_votes > 0 if distribution.has_peers() else checkpoint.stop_requested
                if stop or checkpoint.is_due():
                    checkpoint.save(step.variables, done, {"since_report": since_report, "totals": totals.tolist()})
                if stop:
                    raise Interrupted(f"saved after step {done} of {steps}: run `dvc repro` to resume")


def _measure_epoch(shards: Sequence[np.ndarray], batch_size: int, label: str) -> tuple[int, tuple[int, ...]]:
    """Steps in an epoch and the shape of an image. Raises UserError when there are fewer images than one batch."""
    per_epoch = steps_per_epoch(shards, batch_size)
    if per_epoch == 0:
        count = sum(map(len, shards))
        raise UserError(
            f"{label} has {count} training images, fewer than one batch of {batch_size}: lower the batch size"
        )
    return per_epoch, shards[0].shape[1:]


def _compile(
    step: Step, batch_size: int, shape: tuple[int, ...]
) -> Callable[[np.ndarray, np.ndarray, int, float], tuple[np.ndarray, float]]:
    """A function that runs consecutive steps on all replicas in one graph.

    It takes images uint8 [count, batch, height, width, channels], labels int [count, batch], the index of the first
    step, and this process's vote to stop (0 or 1). It returns the sums of the step's metrics, float32 [metrics], and
    of the votes of all replicas.
    """
    strategy, variants = distribution.strategy(), step.variants
    add, mean = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN

    def run_variant(variant, images, labels, index):
        def run_replica():
            values = variant(distribution.replica_slice(images), distribution.replica_slice(labels), index)
            return tf.stack([tf.cast(value, tf.float32) for value in values])

        return strategy.reduce(mean, strategy.run(run_replica), axis=None)

    image_batches = tf.TensorSpec([None, batch_size, *shape], tf.uint8)
    label_batches = tf.TensorSpec([None, batch_size], tf.int32)

    # One graph for calls of any length: compiling it takes seconds.
    @tf.function(input_signature=[image_batches, label_batches, tf.TensorSpec([], tf.int64), tf.TensorSpec([])])
    def run_steps(images, labels, first, stop_vote):
        totals = tf.zeros([len(step.metrics)])
        for i in tf.range(tf.shape(labels)[0]):
            index = first + tf.cast(i, tf.int64)
            branches = [partial(run_variant, variant, images[i], labels[i], index) for variant in variants]
            totals += choose(branches, step.variant(index))
        return totals, strategy.reduce(add, strategy.run(lambda: tf.identity(stop_vote)), axis=None)

    def run(images, labels, first, stop_vote):
        sums, stop_votes = run_steps(
            tf.constant(images), tf.constant(labels, tf.int32), tf.constant(first, tf.int64), tf.constant(stop_vote)
        )
        return sums.numpy(), stop_votes.numpy()

    return run


def _calls(
    shards: Callable[[int], Sequence[np.ndarray]],
    per_epoch: int,
    batch_size: int,
    steps: int,
    report_every: int,
    seed: int,
    done: int,
) -> Iterator[tuple[Sequence[np.ndarray], np.ndarray]]:
    """Yields the input of each call, from step `done` on: the shards of its epoch, and the positions of its images in
    them, int64 [count, batch_size]. A call has at most STEPS_PER_CALL steps, and ends where a report is due."""
    for epoch in range(done // per_epoch, math.ceil(steps / per_epoch)):
        start = epoch * per_epoch  # the step at which the window starts
        read = shards(epoch)
        for batches in _windows(read, batch_size, seed, epoch):
            start, batches = start + len(batches), batches[max(0, done - start) :]
            while len(batches) and done < steps:
                count = min(STEPS_PER_CALL, len(batches), steps - done, report_every - done % report_every)
                yield read, batches[:count]
                done, batches = done + count, batches[count:]


def _windows(shards: Sequence[np.ndarray], batch_size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Yields the batches of each group of shards: positions int64 [batches, batch_size] in the concatenated shards."""
    random = np.random.default_rng([seed, epoch])
    left = steps_per_epoch(shards, batch_size)
    starts = np.cumsum([0, *(len(shard) for shard in shards)])
    drawn = random.permutation(len(shards))
    for group in (drawn[i : i + SHARDS_AT_A_TIME] for i in range(0, len(drawn), SHARDS_AT_A_TIME)):
        positions = np.concatenate([np.arange(starts[k], starts[k + 1]) for k in group])
        count = min(len(positions) // batch_size, left)
        left -= count
        yield positions[random.permutation(len(positions))[: count * batch_size]].reshape(count, batch_size)
