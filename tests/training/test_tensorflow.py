"""stages.training.tensorflow: lazy imports and the choice of precision."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.running.terminal import UserError
from stages.training import tensorflow as runtime
from stages.training.tensorflow import compute_dtype, compute_in, fastest_dtype, keras, seed_everything, tf

ROOT = Path(__file__).parents[2]
STAGES = ["ingest", "validate", "augment", "reference", "train_cnn", "train_gan", "evaluate_cnn", "evaluate_gan"]


def python(code: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, **options)


def test_importing_the_stages_imports_no_heavy_package():
    imports = "; ".join(f"import stages.{stage}" for stage in STAGES)
    heavy = "{'tensorflow', 'keras', 'mlflow', 'great_expectations', 'matplotlib'}"
    result = python(f"{imports}\nimport sys; print(sorted({heavy} & set(sys.modules)))")
    assert (result.stdout, result.stderr) == ("[]\n", "")


@pytest.mark.parametrize("stage", ["train_cnn", "train_gan", "reference"])
def test_a_wrong_param_is_found_before_tensorflow_is_imported(stage, tmp_path):
    (tmp_path / "params.yaml").write_text("cnn: {lr: -1}\ngan: {lr: -1}\nreference: {lr: -1}\n", encoding="utf-8")
    result = python(
        f"import os, sys, stages.{stage} as stage\n"
        f"os.chdir({str(tmp_path)!r})\n"
        "try: stage.run_stage(stage.main)\n"
        "finally: print('tensorflow' in sys.modules)"
    )
    assert result.returncode == 1
    assert result.stdout == "False\n"
    assert result.stderr.startswith("error: params.yaml: ")
    assert ".lr` is -1: input should be greater than 0" in result.stderr
    assert result.stderr.count("\n") == 1


def test_tensorflow_starts_quietly_with_deterministic_operations():
    result = python(
        "from stages.training.tensorflow import tf\n"
        "tf.constant(1)\n"
        "from tensorflow.python.framework.config import is_op_determinism_enabled\n"
        "print(is_op_determinism_enabled())"
    )
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_tensorflow_is_set_up_also_when_something_else_imported_it():
    from tensorflow.python.framework import config

    config.disable_op_determinism()
    runtime._start_tensorflow.cache_clear()
    assert tf.__name__ == "tensorflow"
    tf.constant(1)
    assert config.is_op_determinism_enabled()


def test_a_seed_sets_the_first_weights():
    def kernel(seed: int):
        seed_everything(seed)
        return keras.Sequential([keras.Input([3]), keras.layers.Dense(4)]).get_weights()[0].tolist()

    assert kernel(0) == kernel(0) != kernel(1)


def test_the_policy_is_put_back_after_an_error():
    def fail() -> None:
        with compute_in("mixed_bfloat16"):
            assert keras.config.dtype_policy().name == "mixed_bfloat16"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert keras.config.dtype_policy().name == "float32"


def test_precision_names_a_policy():
    assert compute_dtype("float32") == "float32"
    assert compute_dtype("bfloat16") == "mixed_bfloat16"
    assert compute_dtype("auto") in ("float32", "mixed_bfloat16")


@pytest.mark.parametrize(
    ("gpu", "processor_has_bfloat16", "scales_loss", "dtype"),
    [
        (None, True, False, "mixed_bfloat16"),
        (None, False, True, "float32"),
        ((8, 0), False, False, "mixed_bfloat16"),
        ((12, 1), False, True, "mixed_bfloat16"),
        ((7, 5), True, True, "mixed_float16"),
        ((7, 0), True, True, "mixed_float16"),
        ((7, 5), True, False, "float32"),
        ((6, 1), True, True, "float32"),
        ((0, 0), True, True, "float32"),
    ],
)
def test_auto_takes_what_the_hardware_is_fast_in(gpu, processor_has_bfloat16, scales_loss, dtype):
    assert fastest_dtype(gpu, processor_has_bfloat16, scales_loss) == dtype


@pytest.mark.skipif("tf.config.list_physical_devices('GPU')", reason="there is a GPU here")
def test_float16_wants_a_gpu():
    with pytest.raises(UserError, match="precision float16 needs a GPU, and TensorFlow finds none here"):
        compute_dtype("float16", scales_loss=True)
