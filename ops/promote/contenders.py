"""The networks of this commit as contenders: their versions in the registry, and their comparison with others.

Reads  data/ingest, data/reference, the networks of ops/project/networks.py and the metrics of their evaluation
Writes an MLflow run and a registered version of a network that is not in MLflow yet (`register_missing`)
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ops.project import registry
from ops.project.networks import CNN, GAN
from ops.project.registry import Files, Version
from ops.promote.gate.classifiers import compare_classifiers
from ops.promote.gate.decision import Decision
from ops.promote.gate.generators import Generated, compare_generators
from ops.promote.gate.policy import ClassifierPolicy, GeneratorPolicy, classifier_policy, generator_policy
from ops.promote.measure import class_probabilities, generated_images
from stages.core.dataset import open_shards, pick, read_classes, read_images, read_labels
from stages.core.params import Params, load_params
from stages.evaluate_cnn import EvaluateCnnParams
from stages.evaluate_gan import DATA, REFERENCE, EvaluateGanParams
from stages.evaluation.classifier import registration as classifier_registration
from stages.evaluation.generator import registration as generator_registration
from stages.reference_network.features import ReferenceSpace
from stages.running.terminal import UserError
from stages.running.tracking.identity import is_version_of, sha256_of
from stages.running.tracking.record import Run, stage_run
from stages.serving.registry.network import Network


class Contender(ABC):
    """A network of this commit, which can be compared with others on the present images."""

    network: Network
    policy: ClassifierPolicy | GeneratorPolicy

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that are registered with the network, in order."""

    @abstractmethod
    def evaluation_params(self) -> Params:
        """The params of the stage that evaluates the network."""

    @abstractmethod
    def register(self, run: Run, scores: Mapping[str, float]) -> None:
        """Registers the network with its scores, as its evaluation stage does."""

    @abstractmethod
    def compare_with(self, other: Files | None) -> Decision:
        """The gate's decision on this network with `other` as the champion, or None as there is no champion."""

    @cached_property
    def classes(self) -> list[str]:
        """The classes of the present data, on which this commit's networks were trained."""
        return read_classes(DATA)

    def registered(self) -> Version | None:
        """The version with exactly these files; None when there is none."""
        sha256s = [sha256_of(path) for path in (self.network.file, *self.files())]
        found = registry.versions(self.network.model)
        return next((v for v in found if is_version_of(v.tags, self.network.model, sha256s)), None)


class Classifier(Contender):
    network = CNN

    def __init__(self) -> None:
        self.policy: ClassifierPolicy = classifier_policy()

    def files(self) -> list[Path]:
        return classifier_registration.registered_files(DATA)

    def evaluation_params(self) -> Params:
        return load_params(EvaluateCnnParams, self.network.evaluate_stage)

    def register(self, run: Run, scores: Mapping[str, float]) -> None:
        classifier_registration.register(run, scores, DATA)

    def compare_with(self, other: Files | None) -> Decision:
        champion = class_probabilities(other.network, other.classes, self.test[0], self.classes) if other else None
        return compare_classifiers(champion, self.own, self.test[1], self.classes, self.policy)

    @cached_property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        return read_images(DATA, "test"), read_labels(DATA, "test")

    @cached_property
    def own(self) -> np.ndarray:
        return class_probabilities(self.network.file, self.classes, self.test[0], self.classes)


class Generator(Contender):
    network = GAN

    def __init__(self) -> None:
        self.policy: GeneratorPolicy = generator_policy()

    def files(self) -> list[Path]:
        return generator_registration.registered_files(DATA)

    def evaluation_params(self) -> Params:
        return load_params(EvaluateGanParams, self.network.evaluate_stage)

    def register(self, run: Run, scores: Mapping[str, float]) -> None:
        generator_registration.register(run, scores, DATA)

    def compare_with(self, other: Files | None) -> Decision:
        champion = self._generated_by(*other) if other else None
        return compare_generators(champion, self.own, self.real, self.policy)

    @cached_property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """Test images, and labels for as many generated images. The labels are drawn from the train set: with those of
        the test images, real and generated images would not be independent, and KID would be biased."""
        random, shards = np.random.default_rng(self.policy.seed), open_shards(DATA, "test")
        available = sum(len(shard) for shard in shards)
        count = min(self.policy.images, available)
        images = pick(shards, np.sort(random.permutation(available)[:count]))
        return images, random.choice(read_labels(DATA, "train"), count)

    @cached_property
    def space(self) -> ReferenceSpace:
        return ReferenceSpace(REFERENCE)

    @cached_property
    def real(self) -> np.ndarray:
        return self.space(self.test[0])[0]

    @cached_property
    def own(self) -> Generated:
        return self._generated_by(self.network.file, self.classes)

    def _generated_by(self, network: Path, classes: Sequence[str]) -> Generated:
        images, labels = self.test
        generated = generated_images(network, classes, labels, self.classes, images.shape[1:], self.policy.seed)
        features, probabilities = self.space(generated)
        return Generated(features, probabilities.argmax(axis=1) == labels)


CONTENDERS: Mapping[str, type[Classifier] | type[Generator]] = {
    contender.network.section: contender for contender in (Classifier, Generator)
}


def register_missing(contenders: Sequence[Contender]) -> None:
    """Registers networks that are not in MLflow yet, because all their stages came from the cache, from their files.

    Raises UserError when MLflow does not register them.
    """
    for contender in contenders:
        if not _is_registered(contender):
            _register_from_files(contender)
    if not all(_is_registered(contender) for contender in contenders):
        raise UserError(
            "MLflow did not register this commit's networks: run this again with VISIONLOOP_TRACKING neither `off` nor "
            "`later`; see .visionloop/sender.log"
        )


def _is_registered(contender: Contender) -> bool:
    return registry.exists() and contender.registered() is not None


def _register_from_files(contender: Contender) -> None:
    network = contender.network
    scores = json.loads(network.metrics.read_text(encoding="utf-8"))[network.section]
    with stage_run(network.evaluate_stage, contender.evaluation_params()) as run:
        run.tags({"from_cache": "true"})
        run.metrics({f"{network.section}.{name}": value for name, value in scores.items()})
        contender.register(run, scores)
