"""promotion.yaml: the requirements for a candidate to replace the champion."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ops.project.networks import CNN, GAN
from stages.core.params import Params, load_params

POLICY = Path("promotion.yaml")

Margin = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class ClassifierPolicy(Params):
    """Section `cnn` of promotion.yaml."""

    main: Literal["accuracy", "macro_f1", "nll"]
    level: float = Field(gt=0, lt=0.5)
    resamples: int = Field(ge=100, le=100_000)
    seed: int = Field(ge=0, lt=2**31)
    guards: dict[Literal["accuracy", "macro_f1", "nll", "ece"], Margin]
    class_recall: Share | None
    floors: dict[Literal["accuracy", "macro_f1"], Share]


class GeneratorPolicy(Params):
    """Section `gan` of promotion.yaml."""

    main: Literal["kid"]
    level: float = Field(gt=0, lt=0.5)
    permutations: int = Field(ge=100, le=100_000)
    images: int = Field(ge=10, le=20_000)
    seed: int = Field(ge=0, lt=2**31)
    guards: dict[Literal["precision", "recall", "label_accuracy"], Annotated[float, Field(gt=0, le=1)]]
    floors: dict[Literal["precision", "recall", "label_accuracy"], Share]

    @model_validator(mode="after")
    def _p_can_reach_the_level(self) -> Self:
        if self.permutations < 1 / self.level:
            raise ValueError("permutations must be at least 1 / level: with fewer, no p-value can reach the level")
        return self


def classifier_policy(path: Path = POLICY) -> ClassifierPolicy:
    """The policy for classifiers. Raises UserError naming an invalid key."""
    return load_params(ClassifierPolicy, CNN.section, path)


def generator_policy(path: Path = POLICY) -> GeneratorPolicy:
    """The policy for generators. Raises UserError naming an invalid key."""
    return load_params(GeneratorPolicy, GAN.section, path)
