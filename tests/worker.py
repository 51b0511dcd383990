"""One process of a training on tiny images: `python -m tests.worker FOLDER [REPLICAS] [CASE ...]`.

Trains each case for STEPS steps in float32 with whatever the environment says about other workers, or with REPLICAS
processors that TensorFlow is told are several; the chief writes FOLDER/CASE.npz, the weights in the order of the step's
variables.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stages.classifier.base.networks import build_classifier
from stages.classifier.base.step import ClassifierStep
from stages.classifier.mixing import Mixing
from stages.generator.networks import build_discriminator, build_generator
from stages.generator.step import AdversarialStep
from stages.running.launcher import is_chief
from stages.training import distribution
from stages.training.loop import train
from stages.training.tensorflow import seed_everything, tf

STEPS, BATCH_SIZE, CLASSES, SHAPE = 50, 16, 3, (12, 12, 1)


def classifier(**options: Any) -> ClassifierStep:
    recipe: dict[str, Any] = {"lr": 2e-3, "schedule": "one_cycle", "weight_decay": 0.02, "beta_2": 0.99}
    recipe |= {"label_smoothing": 0.1, "average": 0.9, "steps": STEPS}
    return ClassifierStep(build_classifier("compact", SHAPE, CLASSES, 8), **(recipe | options))


def adversaries(arch: str, networks: dict[str, Any], **options: Any) -> AdversarialStep:
    recipe: dict[str, Any] = {"steps": STEPS, "lr": 1e-3, "schedule": "linear_tail", "penalty": None, "seed": 7}
    return AdversarialStep(
        build_generator(arch, SHAPE, CLASSES, 8, 8, True),  # type: ignore[arg-type]
        build_discriminator(arch, SHAPE, CLASSES, 8, True, **networks),  # type: ignore[arg-type]
        **(recipe | {"penalty_every": 4, "average": 0.9} | options),
    )


CASES = {
    "classifier": classifier,
    "mixing": lambda: classifier(optimizer="sgd", lr=0.05, mix=Mixing(0.4, 1.0, 3)),
    "gan": lambda: adversaries("conv", {}, loss="relativistic", mismatch=0.1, classes=CLASSES),
    "everything": lambda: adversaries(
        "dcgan",
        {"minibatch_std": True},
        loss="bce",
        discriminator_steps=2,
        feature_matching=0.5,
        diff_augment=["colour", "translation", "cutout"],
        ada_target=0.6,
    ),
}


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, 96).astype(np.int32)
    images = random.integers(0, 60, (96, *SHAPE), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 2] += np.uint8(150)
    return images, labels


@contextmanager
def several_devices(count: int) -> Iterator[None]:
    """The processor as so many devices, as a machine with as many GPUs."""
    processor = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * count)
    distribution._joined = tf.distribute.MirroredStrategy([f"CPU:{k}" for k in range(count)])
    yield


def main(folder: Path, count: int, cases: list[str]) -> None:
    images, labels = images_and_labels()
    with several_devices(count) if count > 1 else distribution.joined(BATCH_SIZE, "batch_size"):
        for case in cases:
            seed_everything(1)
            with distribution.strategy().scope():
                step = CASES[case]()
            options: dict[str, Any] = {"batch_size": BATCH_SIZE, "steps": STEPS, "report_every": STEPS, "seed": 0}
            reports = list(train(step, lambda epoch: [images], labels, **options, label=case, divergence_hint=""))
            if is_chief():
                values = {f"{k:04d}": np.asarray(variable.numpy()) for k, variable in enumerate(step.variables)}
                values |= {"means": np.array(list(reports[-1].means.values()))}
                np.savez(folder / f"{case}.npz", **values, replicas=distribution.replicas())  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or list(CASES))
