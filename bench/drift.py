"""Measures how reliably `visionloop drift` detects changed images, with the thresholds of drift.yaml.

    python -m bench.drift ARCHIVE [--tries 20] [--per-class N]    prints the share of tries that raise an alarm

ARCHIVE is a data set as ingest reads it; RESULTS.md uses Fashion-MNIST. A third of its images trains the reference
network, once. The rest is split in half at random in each try: one half makes the profile, as if it were a champion's
data set (its features are of the 30% that are its val and test images), and the other half is compared with it, changed
or not. So the network was not trained on any image of a feature sample or of a comparison, as in a real run.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ops.drift.findings import POLICY, DriftParams, Embedded, Finding, find_drift
from ops.drift.profile import (
    MAX_FEATURES,
    Profile,
    all_statistics,
    balanced,
    bin_edges,
    count,
    observe,
    statistic_names,
)
from stages.core.params import load_params
from stages.evaluation.classifier.scores import wilson_interval
from stages.ingestion.shards import write_shards
from stages.ingestion.sources import open_source
from stages.ingestion.splits import Splitter
from stages.ingestion.survey import limited, survey
from stages.reference_network.features import ReferenceSpace
from stages.reference_network.training import ReferenceTraining
from stages.running import terminal
from stages.training.network_files import save_network

Change = Callable[[np.ndarray], np.ndarray]  # of images uint8 [n, height, width, channels]


def invert(images: np.ndarray) -> np.ndarray:
    return 255 - images


def blur(sigma: float) -> Change:
    """A blur by a Gaussian of `sigma` px."""

    def change(images: np.ndarray) -> np.ndarray:
        return np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images]).reshape(images.shape)

    return change


def relight(contrast: float, brightness: float) -> Change:
    """A change of greys, times `contrast` plus `brightness`."""
    return lambda images: np.clip(np.round(images * contrast + brightness), 0, 255).astype(np.uint8)


class Simulation:
    """Tries of the drift check on halves of a data set."""

    def __init__(self, archive: Path, folder: Path, *, per_class: int | None, steps: int):
        """Decodes the images (at most `per_class` of each class and split) into `folder` and trains the network."""
        with open_source(archive) as source:
            items = limited(source.items, per_class)
            plan = survey(items, source.image_size, None, "pad")
            splitter = Splitter({"train", "val", "test"}, 0.0, 0.0)
            write_shards(items, source.classes, plan, splitter, 64, folder, 1).close()
        (folder / "classes.json").write_text(json.dumps(source.classes), encoding="utf-8")
        self.all = observe(folder)
        self.policy = load_params(DriftParams, "drift", Path(__file__).parents[1] / POLICY)
        order = np.random.default_rng(0).permutation(len(self.all.labels))
        trained_on, self.rest = np.sort(order[: len(order) // 3]), np.sort(order[len(order) // 3 :])
        training = ReferenceTraining(
            [self.all.images(trained_on)],
            self.all.labels[trained_on],
            len(self.all.classes),
            steps=steps,
            batch_size=128,
            lr=5e-3,
            seed=0,
        )
        for _ in training.reports("reference", "lower lr"):
            pass
        self.network = folder / "model.keras"
        save_network(training.network, self.network)
        self.space = ReferenceSpace(self.network)
        self.images = self.all.images(self.rest)
        self.labels, self.hashes = self.all.labels[self.rest], self.all.hashes[self.rest]
        self.known: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.add("none", lambda images: images)

    def add(self, name: str, change: Change) -> None:
        """Adds a change by `name`: computes and keeps statistics and features of all images after this change."""
        if name in self.known:
            return
        images = change(self.images)
        sizes = self.all.statistics[self.rest, statistic_names(images.shape[3]).index("size")]
        self.known[name] = all_statistics([images], sizes), self.space(images)[0].astype(np.float32)

    def halves(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of two random halves of the images."""
        order = np.random.default_rng([seed, 1]).permutation(len(self.rest))
        return np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])

    def profile(self, half: np.ndarray, seed: int) -> Profile:
        """The profile of this half as a champion's data set."""
        random = np.random.default_rng([seed, 2])
        statistics, features = self.known["none"]
        edges, classes = bin_edges(statistics[half]), len(self.all.classes)
        unseen = np.sort(random.permutation(half)[: int(0.3 * len(half))])
        chosen = unseen[balanced(self.labels[unseen], MAX_FEATURES, random)]
        return Profile(
            self.all.classes,
            self.images.shape[1:],
            statistic_names(self.images.shape[3]),
            count(statistics[half], self.labels[half], classes, edges),
            edges,
            features[chosen],
            self.labels[chosen],
            np.sort(self.hashes[half]),
            self.network,
        )

    def findings(self, profile: Profile, old: np.ndarray, new: np.ndarray, change: str, seed: int) -> list[Finding]:
        """The findings about data with the images at positions `old` unchanged, and those at `new` with this change."""
        statistics, features = self.known[change]
        positions = np.concatenate([old, new])
        is_new = np.arange(len(positions)) >= len(old)
        observed = replace(
            self.all,
            labels=self.labels[positions],
            statistics=np.concatenate([self.known["none"][0][old], statistics[new]]),
        )
        chosen = new[balanced(self.labels[new], self.policy.max_images, np.random.default_rng([seed, 3]))]
        embedded = Embedded(chosen, self.labels[chosen], features[chosen])
        return find_drift(profile, observed, is_new, embedded, self.policy)[0]

    def alarms(self, change: str, tries: int, images: int | None = None, keep: float = 1.0) -> int:
        """The number of tries in which the other half (with this change, and with the share `keep` of the images of its
        first three classes) raises an alarm; with `images`, only this number of them, added to the whole old half."""
        raised = 0
        for seed in range(tries):
            first, second = self.halves(seed)
            profile, random = self.profile(first, seed), np.random.default_rng([seed, 4])
            kept = second[(self.labels[second] > 2) | (random.random(len(second)) < keep)]
            new = kept if images is None else random.choice(kept, images, replace=False)
            old = first if images is not None else first[:0]
            raised += any(finding.alarm for finding in self.findings(profile, old, new, change, seed))
        return raised


CHANGES: Mapping[str, Change] = {
    "none": lambda images: images,
    "inverted": invert,
    "blurred, sigma 0.35 px": blur(0.35),
    "blurred, sigma 0.4 px": blur(0.4),
    "blurred, sigma 0.5 px": blur(0.5),
    "blurred, sigma 0.7 px": blur(0.7),
    "contrast x 0.95": relight(0.95, 0),
    "contrast x 0.9": relight(0.9, 0),
    "contrast x 0.8": relight(0.8, 0),
    "brightness + 5": relight(1, 5),
    "brightness + 10": relight(1, 10),
    "brightness + 20": relight(1, 20),
    "contrast x 0.8, brightness + 20": relight(0.8, 20),
}
KEPT_SHARES = (0.8, 0.6, 0.5, 0.4, 1 / 3)
NEW_IMAGES = (50, 100, 300, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.drift", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, help="a folder or archive of images in class folders")
    parser.add_argument("--tries", type=int, default=20, help="tries per value; default: %(default)s")
    parser.add_argument("--per-class", type=int, help="maximum images per class and split; default: all")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(arguments.archive, Path(folder), per_class=arguments.per_class, steps=300)
        tries = arguments.tries
        low, high = wilson_interval(0.0, tries)
        print(
            f"{len(simulation.rest) // 2:,} images per half; 0 of {tries} tries means a rate of {low:.0%} to {high:.0%}"
        )
        head = f"{'share of tries with an alarm':34}{'the half':>10}"
        print(head + "".join(f"{f'{n} new':>10}" for n in NEW_IMAGES))
        for name, change in CHANGES.items():
            simulation.add(name, change)
            rates = [simulation.alarms(name, tries, images) / tries for images in (None, *NEW_IMAGES)]
            print(f"{name:34}" + "".join(f"{rate:>10.0%}" for rate in rates), flush=True)
            if name != "none":
                del simulation.known[name]
        for keep in KEPT_SHARES:
            rate = simulation.alarms("none", tries, keep=keep) / tries
            print(f"{f'{keep:.0%} of the images of 3 classes':34}{rate:>10.0%}", flush=True)


if __name__ == "__main__":
    terminal.run_stage(main)
