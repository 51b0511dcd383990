"""The outputs of evaluate_gan, part by part: metrics, a table and pictures of the generator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.dataset import Images, open_shards, pick, read_classes, read_labels
from stages.core.outputs import write_table
from stages.evaluation.generator import figures
from stages.evaluation.generator.memorisation import NearestSearch, distance_ratio, near_copies, pixels
from stages.evaluation.generator.metrics import (
    class_distances,
    classification_accuracy_score,
    generator_metrics,
    large_sample_metrics,
)
from stages.generator.sampling import draw_latents, generate, is_conditional
from stages.reference_network.features import ReferenceSpace
from stages.training.network_files import load_network
from stages.training.scores import accuracy

IMAGES_AT_A_TIME = 4096  # of the train set, in the reference space and as float32
SPACES = {"": "in the reference space", "_pixels": "as plain pixels"}  # with pictures, by the suffix of their metrics
INDEPENDENT = {"kid_error", "coverage_expected", "fd_classes"}  # of the reference network
AXES = {
    "": "distance to the nearest train image,\nreference space",
    "_pixels": "root mean square difference from the\nnearest train image, 0 to 255",
}


class GeneratorReport:
    """The parts share the generated, test and train images to compare, equally many of each, and their features.

    network: the generator's file. reference, second: the files of the two reference networks. data: the folder of the
    data set. params: the section `evaluate_gan` of params.yaml.
    """

    def __init__(self, folder: Path, network: Path, reference: Path, second: Path, data: Path, params: Any):
        self.folder, self.params = folder, params
        self.generator, self.classes = load_network(network), read_classes(data)
        self.space, self.second = ReferenceSpace(reference), ReferenceSpace(second)
        self.conditional = is_conditional(self.generator)
        self.train_shards, self.train_labels = open_shards(data, "train"), read_labels(data, "train")
        self.test_images, self.test_labels = Images(data, "test"), read_labels(data, "test")
        self.count = min(params.images, len(self.test_labels), len(self.train_labels))
        random = np.random.default_rng(params.seed)
        chosen = np.sort(random.permutation(len(self.test_labels))[: self.count])
        train_chosen = np.sort(random.permutation(len(self.train_labels))[: self.count])
        # The labels of the generated images are drawn from the train set: with those of the test images the two sets
        # would be dependent, and KID biased.
        fake_labels = random.choice(self.train_labels, self.count)
        latents = draw_latents(self.count, self.generator.input_shape[0][1], params.seed)
        self.labels = {
            "fake": fake_labels,
            "test": self.test_labels[chosen],
            "train": self.train_labels[train_chosen],
        }
        self.images = {
            "fake": generate(self.generator, latents, fake_labels),
            "test": self.test_images[chosen],
            "train": pick(self.train_shards, train_chosen),
        }
        self.features, self.probabilities = self._embed(self.space)

    def _embed(self, space: ReferenceSpace) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Features and class probabilities of each kind of images."""
        found = {kind: space(images) for kind, images in self.images.items()}
        return {kind: pair[0] for kind, pair in found.items()}, {kind: pair[1] for kind, pair in found.items()}

    def write(self) -> dict[str, float]:
        """Writes the table and the pictures to the folder; returns the section `gan` of metrics.json."""
        metrics = self.similarity(self.features, self.probabilities)
        metrics |= {"cas": self.classification_accuracy_score()}
        rows = self.by_class(self.features)
        write_table(self.folder / "classes.csv", rows)
        figures.draw_class_distances(self.folder / "classes.png", rows)
        metrics |= class_means(rows)
        metrics |= self.memorisation()
        metrics |= self.second_reference()
        figures.draw_samples(self.folder / "samples.png", self.generator, self.classes, self.params.seed)
        figures.draw_walk(self.folder / "walk.webp", self.generator, self.classes, self.params.seed)
        return {name: value for name, value in metrics.items() if not np.isnan(value)}

    def similarity(self, features: dict[str, np.ndarray], probabilities: dict[str, np.ndarray]) -> dict[str, float]:
        """The similarity of the generated to the test images, and whether they show the requested class."""
        params = self.params
        seed = params.seed
        kid_options = {"kid_subsets": params.kid_subsets, "kid_subset_size": params.kid_subset_size, "seed": seed}
        size_options = {"sizes": params.fd_sizes, "draws": params.fd_draws, "seed": seed}
        compared = features["fake"], features["test"], features["train"]
        metrics = generator_metrics(*compared, **kid_options) | large_sample_metrics(*compared, **size_options)
        return metrics | {
            "label_accuracy": accuracy(probabilities["fake"], self.labels["fake"]),
            "label_accuracy_real": accuracy(probabilities["test"], self.labels["test"]),
        }

    def classification_accuracy_score(self) -> float:
        """The accuracy of a classifier that was trained only on generated images."""
        return classification_accuracy_score(
            self.generator,
            self.train_labels,
            len(self.classes),
            self.test_images,
            self.test_labels,
            images=self.params.cas_images,
            steps=self.params.cas_steps,
            batch_size=self.params.cas_batch_size,
            lr=self.params.cas_lr,
            seed=self.params.seed,
        )

    def by_class(self, features: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """The distances of each class with enough images; all are empty for an unconditional generator."""
        fake, test, train = ((features[kind], self.labels[kind]) for kind in ("fake", "test", "train"))
        min_images = self.params.class_images if self.conditional else self.count + 1
        return class_distances(fake, test, train, self.classes, min_images)

    def memorisation(self) -> dict[str, float]:
        """Whether generated images are nearer to train images than test images are, in both reference spaces and as
        plain pixels."""
        part = slice(0, self.params.memorisation_images)
        fake, test = self.images["fake"][part], self.images["test"][part]
        embeddings = {"": lambda images: self.space(images)[0], "_pixels": pixels}
        embeddings["_second"] = lambda images: self.second(images)[0]
        searches = {end: [NearestSearch(embed(images)) for images in (fake, test)] for end, embed in embeddings.items()}
        for images in self._train_blocks():
            for end, embed in embeddings.items():
                centres = embed(images)
                for search in searches[end]:
                    search.add(centres)
        metrics, panels = {}, {}
        for end, (fake_search, test_search) in searches.items():
            share, threshold = near_copies(fake_search.distances, test_search.distances, self.params.near_copy)
            metrics[f"memorisation_ratio{end}"] = distance_ratio(fake_search.distances, test_search.distances)
            metrics[f"near_copies{end}"] = share
            if end not in SPACES:
                continue
            panels[AXES[end]] = fake_search.distances, test_search.distances, threshold
            order = np.argsort(fake_search.distances, kind="stable")[: figures.SHOWN_PAIRS]
            nearest = pick(self.train_shards, fake_search.positions[order])
            path = self.folder / f"copies{end}.png"
            figures.draw_pairs(path, fake[order], nearest, fake_search.distances[order], SPACES[end])
        figures.draw_distances(self.folder / "memorisation.png", panels, self.params.near_copy)
        shown = slice(0, figures.SHOWN_NEIGHBOURS)
        nearest = pick(self.train_shards, searches[""][0].positions[shown])
        figures.draw_neighbours(self.folder / "neighbours.png", fake[shown], nearest)
        return metrics

    def _train_blocks(self) -> Iterator[np.ndarray]:
        for shard in self.train_shards:
            for start in range(0, len(shard), IMAGES_AT_A_TIME):
                yield np.asarray(shard[start : start + IMAGES_AT_A_TIME])

    def second_reference(self) -> dict[str, float]:
        """The metrics that depend on the reference network, from one with another seed."""
        features, probabilities = self._embed(self.second)
        found = self.similarity(features, probabilities) | class_means(self.by_class(features))
        dependent = {name: value for name, value in found.items() if name not in INDEPENDENT}
        return {second_name(name): value for name, value in dependent.items()}


def class_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The means of the classes' distances, and the number of classes with a distance."""
    measured = [row for row in rows if row["fd"] != ""]
    if not measured:
        return {"fd_classes": 0}
    mean, floor = (float(np.mean([row[key] for row in measured])) for key in ("fd", "fd_floor"))
    return {"fd_class_mean": mean, "fd_class_floor": floor, "fd_classes": len(measured)}


def second_name(name: str) -> str:
    """fd -> fd_second, kid_low -> kid_second_low."""
    for end in ("_low", "_high"):
        if name.endswith(end):
            return f"{name.removesuffix(end)}_second{end}"
    return f"{name}_second"
