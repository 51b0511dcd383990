"""Training on several GPUs and several machines, with the results of one.

Nothing of this is a param. The processes of a job are told apart by what its launcher sets (see launcher.py), and
several GPUs of one machine are found by themselves. Batches, their order and what is drawn at random are those of one
process: each replica, a GPU or a worker without any, computes its rows of every batch, and gradients and batch
statistics are averages over the whole batch. The chief writes outputs, checkpoints and records; the other processes
compute and leave.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stages.core.outputs import atomic_folder
from stages.running.launcher import is_chief, slurm_tasks, tf_config
from stages.running.terminal import UserError, silence
from stages.training.tensorflow import tf

FIRST_PORT, PORTS = 20_000, 10_000  # for Slurm's tasks: below those that Linux gives to clients

_joined: Any = None


# ---------------------------------------------------------------- processes


@contextmanager
def joined(batch_size: int, name: str) -> Iterator[None]:
    """Inside, this process computes with the others of its job, for which it waits, and on all its GPUs; the chief
    alone says how it goes. Outside it computes alone.

    To be entered before TensorFlow computes anything, and before a Checkpoint: TensorFlow takes SIGTERM for itself when
    it meets others, and the Checkpoint takes it back. Raises UserError when the replicas cannot share a batch evenly;
    name: that of the param.
    """
    global _joined
    if not is_chief():
        silence()
    if tf_config():
        _joined = _several_workers(tf.distribute.cluster_resolver.TFConfigClusterResolver())
    elif slurm_tasks() > 1:
        _joined = _several_workers(_slurm_resolver())
    elif len(tf.config.list_physical_devices("GPU")) > 1:
        _joined = tf.distribute.MirroredStrategy()
    try:
        if batch_size % replicas():
            raise UserError(
                f"{name} is {batch_size}, and {replicas()} replicas (GPUs, or workers without any) share each batch "
                f"evenly: set it to a multiple of {replicas()}, or use another number of them"
            )
        yield
    finally:
        _joined = None


def strategy():
    """How this process computes: as joined, else alone."""
    return _joined or tf.distribute.get_strategy()


def replicas() -> int:
    """In how many parts each batch is computed."""
    return strategy().num_replicas_in_sync


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """`atomic_folder(path)` on the chief; elsewhere a folder that is thrown away."""
    if is_chief():
        with atomic_folder(path) as folder:
            yield folder
    else:
        with TemporaryDirectory() as folder:
            yield Path(folder)


def bytes_from_chief(make: Callable[[], bytes]) -> bytes:
    """What `make` returns on the chief, where alone it is called, on all processes."""
    if not has_peers():
        return make()
    content = make() if is_chief() else b""
    size = int(_first_replicas(np.array([len(content)], np.int32))[0])
    if not size:  # TensorFlow does not survive adding up nothing
        return b""
    words = np.zeros(-(-size // 4), np.int32)
    words.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
    return _first_replicas(words).tobytes()[:size]


def from_chief(compute: Callable[[], Any]) -> Any:
    """What `compute` returns on the chief, where alone it is called, on all processes; a JSON value."""
    if not has_peers():
        return compute()
    return json.loads(bytes_from_chief(lambda: json.dumps(compute()).encode()))


@contextmanager
def lost_workers_as_user_error() -> Iterator[None]:
    """Turns TensorFlow's errors about processes that are gone into a UserError."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError) as e:
        if not has_peers():
            raise
        aborted = re.search(r"aborted by: (.*)", str(e))
        reason = aborted[1] if aborted else str(e).strip().splitlines()[-1]
        raise UserError(
            f"a worker of this training is gone, and the others cannot go on without it ({reason}). "
            "`dvc repro` goes on from the last checkpoint, with as many workers as you start then"
        ) from e


def has_peers() -> bool:
    """Whether other processes take part in this training."""
    return isinstance(strategy(), tf.distribute.MultiWorkerMirroredStrategy)


def _several_workers(resolver):
    gpus = len(tf.config.list_physical_devices("GPU"))
    known = tf.distribute.cluster_resolver.SimpleClusterResolver(
        resolver.cluster_spec(),
        task_type=resolver.task_type,
        task_id=resolver.task_id,
        num_accelerators={"GPU": gpus},
        rpc_layer="grpc",
    )
    return tf.distribute.MultiWorkerMirroredStrategy(known)


def _slurm_resolver():
    """The tasks of this Slurm step, at ports of its own."""
    step = int(os.environ.get("SLURM_JOB_ID", "0")) * 64 + int(os.environ.get("SLURM_STEP_ID", "0"))
    # Slurm gives each task its GPUs. The resolver would count them by a command that machines without lack, and cannot
    # do with none: one for each task makes it list the tasks.
    tasks = slurm_tasks()
    options = {"gpus_per_node": tasks, "gpus_per_task": 1, "auto_set_gpu": False}
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(port_base=FIRST_PORT + step * 16 % PORTS, **options)
    resolver.cluster_spec()  # sets its task
    return resolver


def _first_replicas(words: np.ndarray) -> np.ndarray:
    """The words int32 [n] of the first replica, which is the chief's, on all processes."""

    @tf.function
    def share(words):
        def add():
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group, 0)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(first, words, tf.zeros_like(words)))

        return strategy().run(add)

    with lost_workers_as_user_error():
        return strategy().experimental_local_results(share(tf.constant(words)))[0].numpy()


# ---------------------------------------------------------------- inside the graph of a step


def replica_slice(whole, axis: int = 0):
    """This replica's rows of a tensor that holds one for each image of the whole batch."""
    context = _replica_context()
    if context is None:
        return whole
    count = tf.shape(whole)[axis] // context.num_replicas_in_sync
    first = context.replica_id_in_sync_group * count
    return tf.gather(whole, first + tf.range(count), axis=axis)


def global_batch_size(images):
    """The number of images in the whole batch, int32 [], where `images` are this replica's."""
    context = _replica_context()
    return tf.shape(images)[0] * (1 if context is None else context.num_replicas_in_sync)


def average(value):
    """The mean over the replicas, through which gradients pass."""
    context = _replica_context()
    return value if context is None else context.all_reduce(tf.distribute.ReduceOp.MEAN, value)


def scale_for_replicas(objective):
    """The part of an objective, a mean over this replica's images, that makes the mean over the whole batch when the
    optimiser adds up the gradients of all replicas."""
    context = _replica_context()
    return objective if context is None else objective / context.num_replicas_in_sync


def previous_in_batch(values):
    """For each row float32 [n, ...] the one before it in the whole batch, for the first the last."""
    context = _replica_context()
    if context is None:
        return tf.roll(values, 1, axis=0)
    ends = context.all_gather(values[-1:], axis=0)  # of each replica
    before = (context.replica_id_in_sync_group - 1) % context.num_replicas_in_sync
    return tf.concat([tf.gather(ends, [before]), values[:-1]], axis=0)


def _replica_context():
    """That of one of several replicas; None elsewhere."""
    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None
