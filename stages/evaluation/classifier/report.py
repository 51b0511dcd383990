"""The outputs of evaluate_cnn, part by part: metrics, tables and pictures of the classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.core.dataset import Images, open_shards, pick, read_classes, read_labels, read_origins
from stages.core.outputs import write_table
from stages.evaluation.classifier import figures
from stages.evaluation.classifier.calibration import fit_temperature
from stages.evaluation.classifier.features import ClassifierSpace
from stages.evaluation.classifier.grad_cam import grad_cam, heat_over
from stages.evaluation.classifier.intervals import (
    bootstrap_area_under_roc,
    bootstrap_mean,
    bootstrap_risk_coverage,
)
from stages.evaluation.classifier.label_errors import held_out_probabilities, suspected_labels
from stages.evaluation.classifier.metrics import class_table, classifier_metrics, confusion_pairs, with_interval
from stages.evaluation.classifier.outliers import (
    area_under_roc,
    choose_outlier_score,
    noise_images,
    out_of_distribution_images,
)
from stages.evaluation.classifier.predictions import prediction_columns, prediction_rows
from stages.evaluation.classifier.robustness import corrupted_hits
from stages.evaluation.classifier.selective import area_under_risk_coverage, risk_coverage
from stages.serving.classifier.bundle import Serving, write_serving
from stages.training.scores import softmax

VAL_IMAGES = 100_000  # at most about this many are used: a temperature and a threshold need no more
SHOWN_NEIGHBOURS, SHOWN_MISTAKES, SHOWN_LABELS, SHOWN_CLASSES = 6, 6, 24, 20


class ClassifierReport:
    """The parts share the classifier's outputs for the test and validation images.

    network: the classifier's file. data: the folder of the data set. params: the section `evaluate_cnn` of params.yaml.
    """

    def __init__(self, folder: Path, network: Path, data: Path, params: Any):
        self.folder, self.data, self.params, self.space = folder, data, params, ClassifierSpace(network)
        self.classes, self.train_shards = read_classes(data), open_shards(data, "train")
        self.images, self.labels = Images(data, "test"), read_labels(data, "test")
        val = Images(data, "val")
        every = -(-len(val) // VAL_IMAGES)
        features, logits = val.through(self.space, every)
        self.temperature = fit_temperature(logits, read_labels(data, "val")[::every])
        self.serving = self._serving(features, logits)
        logits, self.outlier_scores = self.images.through(self._logits_and_scores)
        self.probabilities, self.calibrated = softmax(logits), softmax(logits / self.temperature)

    def _serving(self, features: np.ndarray, logits: np.ndarray) -> Serving:
        """The outlier detector of the registered model, chosen with the outputs for the validation images."""
        params, train_count = self.params, sum(len(shard) for shard in self.train_shards)
        chosen = np.sort(np.random.default_rng([params.seed, 5]).permutation(train_count)[: params.outlier_bank])
        bank = self.space(pick(self.train_shards, chosen))[0] if len(chosen) else features[:0]
        # The score is chosen with other noise than it is evaluated with.
        noise = self.space(noise_images(self.images.shape[1:], params.outlier_images, params.seed + 1))
        return choose_outlier_score(
            (features, logits),
            noise,
            bank,
            neighbours=params.neighbours,
            accepted=params.accepted,
            temperature=self.temperature,
        )

    def _logits_and_scores(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and outlier scores, because the features of all images would take most of the memory."""
        features, logits = self.space(images)
        return logits, self.serving.scores(features, logits)

    def write(self) -> dict[str, float]:
        """Writes tables, pictures and serving.npz to the folder; returns the section `cnn` of metrics.json."""
        metrics = self.quality()
        metrics |= self.abstention()
        self.mistakes()
        metrics |= self.label_errors()
        metrics |= self.robustness()
        metrics |= self.outliers()
        self.evidence()
        return metrics

    def quality(self) -> dict[str, float]:
        """The quality of predictions and probabilities, over all images and by class."""
        metrics, resampled = classifier_metrics(
            self.probabilities,
            self.calibrated,
            self.labels,
            resamples=self.params.resamples,
            seed=self.params.seed,
        )
        rows = class_table(self.probabilities, self.labels, resampled, self.classes)
        write_table(self.folder / "classes.csv", rows)
        sources = read_origins(self.data, "test", np.arange(len(self.labels)))
        scores = self.outlier_scores - self.serving.threshold
        write_table(
            self.folder / "predictions.csv",
            prediction_rows(sources, self.labels, self.calibrated, scores, self.classes),
            prediction_columns(self.classes),
        )
        figures.draw_classifier(self.folder, self.images, self.labels, self.probabilities, self.classes)
        return metrics | {"temperature": self.temperature}

    def abstention(self) -> dict[str, float]:
        """The risk when the classifier may abstain."""
        confidence, hits = self.calibrated.max(axis=1), self.calibrated.argmax(axis=1) == self.labels
        area, best = (area_under_risk_coverage(values, hits) for values in (confidence, hits.astype(float)))
        figures.draw_risk_coverage(self.folder / "risk_coverage.png", *risk_coverage(confidence, hits), area, best)
        resampled = bootstrap_risk_coverage(confidence, hits, self.params.resamples, self.params.seed)
        return with_interval("aurc", area, resampled)

    def mistakes(self) -> None:
        """The classes that it confuses, and train images that may have misled it."""
        pairs = confusion_pairs(self.probabilities, self.labels)
        counts, names = np.bincount(self.labels, minlength=len(self.classes)), self.classes
        rows = [
            {"class": names[true], "predicted": names[found], "images": n, "share_of_class": float(n / counts[true])}
            for true, found, n in pairs
        ]
        write_table(self.folder / "confusions.csv", rows, ["class", "predicted", "images", "share_of_class"])
        shown = [(true, found) for true, found, _ in pairs]
        figures.draw_confusions(
            self.folder / "confusions.png", self.images, self.labels, self.probabilities, names, shown
        )
        worst = figures.worst_mistakes(self.probabilities, self.labels)[:SHOWN_MISTAKES]
        features = self.space(self.images[worst])[0] if len(worst) else np.empty((0, self.serving.bank.shape[1]))
        positions = self.space.nearest(features, self.train_shards, SHOWN_NEIGHBOURS)
        train_labels, predicted = read_labels(self.data, "train"), self.probabilities.argmax(axis=1)
        nearest = (
            np.stack([pick(self.train_shards, row) for row in positions])
            if len(worst)
            else np.zeros((0, SHOWN_NEIGHBOURS, *self.images.shape[1:]), np.uint8)
        )
        captions = [
            [f"{names[self.labels[i]]} > {names[predicted[i]]}", *(names[train_labels[k]] for k in row)]
            for i, row in zip(worst, positions, strict=True)
        ]
        figures.draw_nearest(self.folder / "mistakes_neighbours.png", self.images[worst], nearest, captions)

    def label_errors(self) -> dict[str, float]:
        """Labels of train and test images that are probably wrong."""
        train_labels, params = read_labels(self.data, "train"), self.params
        drawn = np.random.default_rng([params.seed, 3]).permutation(len(train_labels))[: params.label_images]
        chosen, everything = np.sort(drawn), np.arange(len(self.labels))
        found: list[tuple[str, Images | np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = [
            ("test", self.images, self.labels, self.calibrated, everything)
        ]
        if len(chosen) >= 4:
            train_images, labels = pick(self.train_shards, chosen), train_labels[chosen]
            probabilities = held_out_probabilities(
                train_images,
                labels,
                len(self.classes),
                steps=params.label_steps,
                batch_size=params.label_batch_size,
                lr=params.label_lr,
                seed=params.seed,
            )
            found.append(("train", train_images, labels, probabilities, chosen))
        metrics: dict[str, float] = {}
        suspects = []
        for split, images, labels, probabilities, positions in found:
            indices, suggested, scores = suspected_labels(probabilities, labels)
            origins = read_origins(self.data, split, positions[indices])
            metrics[f"suspected_{split}_labels"] = len(indices)
            for i, origin, better, score in zip(indices, origins, suggested, scores, strict=True):
                row = {"split": split, "source": origin, "given": self.classes[labels[i]]}
                row |= {"suggested": self.classes[better], "score": float(score)}
                suspects.append((row, images[i]))
        suspects.sort(key=lambda suspect: -suspect[0]["score"])
        columns = ["split", "source", "given", "suggested", "score"]
        write_table(self.folder / "label_errors.csv", [row for row, _ in suspects], columns)
        shown = suspects[:SHOWN_LABELS]
        figures.draw_grid(
            self.folder / "label_errors.png",
            np.stack([image for _, image in shown]) if shown else self.images[:0],
            [f"{row['given']} > {row['suggested']}{' *' if row['split'] == 'test' else ''}" for row, _ in shown],
            title="most suspicious labels: given > suggested (* in the test set)",
            empty_text="no suspicion",
            shape=self.images.shape[1:],
        )
        return metrics

    def robustness(self) -> dict[str, float]:
        """The accuracy on corrupted images."""
        order = np.random.default_rng([self.params.seed, 4]).permutation(len(self.labels))
        chosen = np.sort(order[: max(1, self.params.corrupted_images)])
        hits, examples = corrupted_hits(self.space, self.images[chosen], self.labels[chosen], self.params.seed)
        if not self.params.corrupted_images:  # only the examples
            hits = {}
        accuracies = {name: float(right.mean()) for name, right in hits.items()}
        rows = [{"corruption": name, "accuracy": value} for name, value in accuracies.items()]
        write_table(self.folder / "corruptions.csv", rows, ["corruption", "accuracy"])
        figures.draw_corruptions(self.folder / "corruptions.png", examples, accuracies)
        if not hits:
            return {}
        of_image = np.mean([right for name, right in hits.items() if name != "clean"], axis=0)
        resampled = bootstrap_mean(of_image, self.params.resamples, self.params.seed)
        return with_interval("corrupted_accuracy", float(of_image.mean()), resampled)

    def outliers(self) -> dict[str, float]:
        """The detection of images of other kinds; writes the detector for the registered model."""
        params, shape, serving = self.params, self.images.shape[1:], self.serving
        write_serving(self.folder / "serving.npz", serving)
        scores = {"test images": self.outlier_scores}
        metrics: dict[str, float] = {}
        for name, images in out_of_distribution_images(shape, params.outlier_images, self.classes, params.seed).items():
            scores[name] = serving.scores(*self.space(images))
            pair = scores["test images"], scores[name]
            resampled = bootstrap_area_under_roc(*pair, params.resamples, params.seed)
            metrics |= with_interval(f"auroc_{name}", area_under_roc(*pair), resampled)
        figures.draw_outliers(self.folder / "outliers.png", scores, serving.threshold, serving.score_name)
        return metrics

    def evidence(self) -> None:
        """The evidence for each class in the test image that the classifier recognises best."""
        of_label = self.probabilities[np.arange(len(self.labels)), self.labels]
        present = np.unique(self.labels)[:SHOWN_CLASSES]
        best = np.array([np.argmax(np.where(self.labels == k, of_label, -1)) for k in present])
        heat = grad_cam(self.space.trunk, self.images[best], self.labels[best])
        names = [self.classes[k] for k in present]
        pictures = heat_over(self.images[best], heat)
        figures.draw_evidence(self.folder / "evidence.png", self.images[best], pictures, names)
