"""TensorFlow and Keras, imported at first use, quietly, and set up so that equal inputs give equal bytes.

`from stages.lib.runtime import keras, tf` costs nothing until the first attribute is read, so that a stage checks its
params in its first second although TensorFlow takes ten to import.
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

Precision = Literal["auto", "float32", "bfloat16"]


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
            tensorflow.get_logger().setLevel("ERROR")  # it warns of the many small networks that are built on purpose
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


def compute_dtype(precision: Precision) -> str:
    """The Keras dtype policy for `precision`: `auto` is mixed bfloat16 where the hardware multiplies it natively.

    On a CPU without AVX512-BF16 or AMX, bfloat16 is emulated and slower than float32.
    """
    if precision == "float32" or (precision == "auto" and not _has_native_bfloat16()):
        return "float32"
    return "mixed_bfloat16"


def _has_native_bfloat16() -> bool:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return capability >= (8, 0)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text(encoding="utf-8")
