"""Training on several GPUs and several machines, with the results of one.

Nothing here is a param. The environment that a launcher sets defines the processes of a job (see launcher.py), and the
GPUs of one machine are detected. Batches, their order and random draws are those of one process: each replica, a GPU or
a worker without one, computes its rows of every batch, and gradients and batch statistics are averages over the whole
batch. The chief writes outputs, checkpoints and records; the other processes only compute.
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

FIRST_PORT, PORTS = 20_000, 10_000  # for Slurm's tasks, below Linux's ephemeral ports

_joined: Any = None


# ---------------------------------------------------------------- processes


@contextmanager
def joined(batch_size: int, name: str) -> Iterator[None]:
    """Inside, this process waits for the others of its job and computes with them, on all its GPUs, and only the chief
    prints. Outside, it computes by itself.

    Enter it before TensorFlow computes anything, and before a Checkpoint: TensorFlow handles SIGTERM once it is
    connected to other processes, and the Checkpoint takes the signal back. Raises UserError when the replicas cannot
    share a batch evenly; name: the param that sets the batch size.
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
                f"{name} is {batch_size}, which {replicas()} replicas (GPUs, or workers without GPUs) cannot share "
                f"evenly: set it to a multiple of {replicas()}, or use another number of replicas"
            )
        yield
    finally:
        _joined = None


def strategy():
    """The strategy of the joined replicas, or TensorFlow's default for one."""
    return _joined or tf.distribute.get_strategy()


def replicas() -> int:
    """The number of replicas that share each batch."""
    return strategy().num_replicas_in_sync


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """`atomic_folder(path)` on the chief; a temporary folder on the other processes."""
    if is_chief():
        with atomic_folder(path) as folder:
            yield folder
    else:
        with TemporaryDirectory() as folder:
            yield Path(folder)


def bytes_from_chief(make: Callable[[], bytes]) -> bytes:
    """Calls `make` on the chief only; returns its result on all processes."""
    if not has_peers():
        return make()
    content = make() if is_chief() else b""
    size = int(_from_first_replica(np.array([len(content)], np.int32))[0])
    if not size:  # TensorFlow crashes when it reduces an empty tensor
        return b""
    words = np.zeros(-(-size // 4), np.int32)
    words.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
    return _from_first_replica(words).tobytes()[:size]


def from_chief(compute: Callable[[], Any]) -> Any:
    """Calls `compute` on the chief only; returns its result, a JSON value, on all processes."""
    if not has_peers():
        return compute()
    return json.loads(bytes_from_chief(lambda: json.dumps(compute()).encode()))


@contextmanager
def lost_workers_as_user_error() -> Iterator[None]:
    """Turns TensorFlow's errors about lost processes into a UserError."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError) as e:
        if not has_peers():
            raise
        aborted = re.search(r"aborted by: (.*)", str(e))
        reason = aborted[1] if aborted else str(e).strip().splitlines()[-1]
        raise UserError(
            f"a worker of this training was lost, and the others cannot continue without it ({reason}): "
            "run `dvc repro` to resume from the last checkpoint, with any number of workers"
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
    """Resolves the tasks of this Slurm step, on ports of its own."""
    step = int(os.environ.get("SLURM_JOB_ID", "0")) * 64 + int(os.environ.get("SLURM_STEP_ID", "0"))
    # Slurm assigns the GPUs to each task. The resolver would count them with a command that machines without GPUs lack,
    # and fails with a count of 0; with one GPU for each task it lists the tasks.
    tasks = slurm_tasks()
    options = {"gpus_per_node": tasks, "gpus_per_task": 1, "auto_set_gpu": False}
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(port_base=FIRST_PORT + step * 16 % PORTS, **options)
    resolver.cluster_spec()  # sets task_type and task_id
    return resolver


def _from_first_replica(words: np.ndarray) -> np.ndarray:
    """Returns the words int32 [n] of the first replica, which belongs to the chief, on all processes."""

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
    """This replica's rows of a tensor with one row for each image of the whole batch."""
    context = _replica_context()
    if context is None:
        return whole
    count = tf.shape(whole)[axis] // context.num_replicas_in_sync
    first = context.replica_id_in_sync_group * count
    return tf.gather(whole, first + tf.range(count), axis=axis)


def global_batch_size(images):
    """The number of images in the whole batch, int32 []; `images` are those of this replica."""
    context = _replica_context()
    return tf.shape(images)[0] * (1 if context is None else context.num_replicas_in_sync)


def average_over_replicas(value):
    """The mean over the replicas; differentiable."""
    context = _replica_context()
    return value if context is None else context.all_reduce(tf.distribute.ReduceOp.MEAN, value)


def scale_for_replicas(objective):
    """Scales an objective, a mean over this replica's images, so that the gradients of all replicas, which the
    optimiser sums, are those of the mean over the whole batch."""
    context = _replica_context()
    return objective if context is None else objective / context.num_replicas_in_sync


def previous_in_batch(values):
    """The previous row in the whole batch for each of the rows float32 [n, ...]; the last one for the first."""
    context = _replica_context()
    if context is None:
        return tf.roll(values, 1, axis=0)
    ends = context.all_gather(values[-1:], axis=0)  # the last row of each replica
    before = (context.replica_id_in_sync_group - 1) % context.num_replicas_in_sync
    return tf.concat([tf.gather(ends, [before]), values[:-1]], axis=0)


def _replica_context():
    """The context of one of several replicas; None elsewhere."""
    context = tf.distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None
