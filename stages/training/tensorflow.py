"""TensorFlow and Keras, imported at first use, quietly, and set up so that equal inputs give equal bytes.

`from stages.training.tensorflow import keras, tf` costs nothing until the first attribute is read, so that a stage
checks its params in its first second although TensorFlow takes ten seconds to import.
"""

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from stages.running.terminal import UserError

Precision = Literal["auto", "float32", "bfloat16"]
ScaledPrecision = Literal["auto", "float32", "bfloat16", "float16"]  # for a training that scales its loss


class _Lazy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        _start_tensorflow()
        return getattr(importlib.import_module(self.__name__), name)


tf: Any = _Lazy("tensorflow")
keras: Any = _Lazy("keras")


@cache
def _start_tensorflow() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow writes notes about CPU features and absent GPUs straight to file descriptor 2, whatever the log level.
    with tempfile.TemporaryFile() as notes:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            tensorflow = importlib.import_module("tensorflow")
            importlib.import_module("keras")
            for gpu in tensorflow.config.list_physical_devices("GPU"):
                tensorflow.config.experimental.set_memory_growth(gpu, True)
            tensorflow.config.experimental.enable_op_determinism()
            tensorflow.get_logger().setLevel("ERROR")  # it warns about many small networks, which are intended
        except BaseException:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def seed_everything(seed: int) -> None:
    """Seeds the initial weights and every layer that draws random numbers."""
    keras.utils.set_random_seed(seed)


@contextmanager
def compute_in(dtype: str) -> Iterator[None]:
    """Layers built inside compute in the Keras dtype policy `dtype`; their weights are float32 in every policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def compute_dtype(precision: ScaledPrecision, scales_loss: bool = False) -> str:
    """The Keras dtype policy for `precision`; `auto` is the fastest one on this machine, see fastest_dtype.

    scales_loss: whether the training scales its loss, without which small gradients vanish in float16.
    Raises UserError for float16 without a GPU: processors only emulate it.
    """
    if precision == "auto":
        return fastest_dtype(_gpu_capability(), _processor_has_bfloat16(), scales_loss)
    if precision == "float16" and _gpu_capability() is None:
        raise UserError("precision float16 needs a GPU, and TensorFlow finds none here: set it to auto")
    return precision if precision == "float32" else f"mixed_{precision}"


def fastest_dtype(gpu_capability: tuple[int, int] | None, processor_has_bfloat16: bool, scales_loss: bool) -> str:
    """Mixed bfloat16 where the hardware multiplies it natively (NVIDIA GPUs from compute capability 8.0, processors
    with AVX512-BF16), mixed float16 on GPUs from 7.0 when the training scales its loss, else float32.

    On other processors bfloat16 is emulated and slower than float32.
    """
    if gpu_capability is None:
        return "mixed_bfloat16" if processor_has_bfloat16 else "float32"
    if gpu_capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if gpu_capability >= (7, 0) and scales_loss else "float32"


def _gpu_capability() -> tuple[int, int] | None:
    """The compute capability of the first GPU; (0, 0) when it reports none, None without a GPU."""
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0)) if gpus else None


def _processor_has_bfloat16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text(encoding="utf-8")
