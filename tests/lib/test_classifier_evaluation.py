"""stages.lib.classifier_evaluation: the parts of a classifier's evaluation on tiny arrays."""

from typing import Any

import numpy as np
import pytest

from stages.lib import classifier_evaluation as evaluation
from stages.lib.classification_metrics import softmax
from stages.lib.classifier_space import ClassifierSpace
from stages.lib.classifiers import build_classifier
from stages.lib.corruptions import CORRUPTIONS
from stages.lib.label_errors import suspected_labels
from stages.lib.network_files import save_network

RANDOM = np.random.default_rng(0)


def test_a_perfect_classifier():
    labels = np.arange(60) % 4
    found, resampled = evaluation.classifier_metrics(
        np.eye(4)[labels], np.eye(4)[labels], labels, resamples=100, seed=0
    )
    assert found["accuracy"] == found["accuracy_high"] == found["macro_f1"] == found["top3_accuracy"] == 1
    assert found["accuracy_low"] == pytest.approx(60 / (60 + 1.959964**2))
    for name in ("nll", "ece", "brier", "nll_calibrated", "ece_calibrated", "brier_calibrated"):
        assert found[name] == found[f"{name}_low"] == found[f"{name}_high"] == 0
    rows = evaluation.class_table(np.eye(4)[labels], labels, resampled, list("abcd"))
    assert [row["images"] for row in rows] == [15] * 4
    assert {row[key] for row in rows for key in ("precision", "recall", "recall_low", "precision_high")} == {1.0}


@pytest.mark.parametrize(("classes", "key"), [(3, None), (4, "top3_accuracy"), (20, "top5_accuracy")])
def test_intervals_hold_the_figure_and_top_k_follows_the_number_of_classes(classes, key):
    labels = RANDOM.integers(0, classes, 400)
    logits = RANDOM.normal(0, 1, (400, classes)) + 2 * np.eye(classes)[labels]
    found, _ = evaluation.classifier_metrics(softmax(logits), softmax(2 * logits), labels, resamples=300, seed=0)
    assert [name for name in found if name.startswith("top") and name.endswith("accuracy")] == ([key] if key else [])
    figures = [name for name in found if not name.endswith(("_low", "_high"))]
    assert all({f"{name}_low", f"{name}_high"} <= found.keys() for name in figures)
    for name in (name for name in figures if "ece" not in name):  # a resample's calibration error is larger
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]


def test_a_class_that_never_occurs_has_no_recall():
    labels = np.array([0, 1, 0, 1])
    _, resampled = evaluation.classifier_metrics(np.eye(3)[labels], np.eye(3)[labels], labels, resamples=100, seed=0)
    row = evaluation.class_table(np.eye(3)[labels], labels, resampled, list("abc"))[2]
    assert row == {"class": "c", "images": 0} | dict.fromkeys(
        ("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high"), ""
    )


def test_confusions_are_counted_and_the_most_frequent_come_first():
    labels, predicted = np.array([0, 0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 0, 1, 1, 2])
    found = evaluation.confusion_pairs(np.eye(3)[predicted], labels)
    assert found == [(0, 1, 2), (1, 0, 1), (2, 1, 1)]
    assert evaluation.confusion_pairs(np.eye(3), np.arange(3)) == []


def test_corruptions_are_measured_beside_the_images_as_they_are(tmp_path):
    save_network(build_classifier("compact", (12, 12, 1), 3, 4), tmp_path / "model.keras")
    space = ClassifierSpace(tmp_path / "model.keras")
    images = RANDOM.integers(0, 256, (30, 12, 12, 1), dtype=np.uint8)
    labels = space(images)[1].argmax(axis=1)
    hits, examples = evaluation.corrupted_hits(space, images, labels, seed=0)
    assert list(hits) == list(examples) == ["clean", *CORRUPTIONS]
    assert hits["clean"].shape == (30,)
    assert hits["clean"].all()
    np.testing.assert_array_equal(examples["clean"], images[0])


def test_digits_are_not_strange_to_a_classifier_of_digits():
    assert evaluation.strange_images((8, 8, 1), 10, [*"9876543210"], 0).keys() == {"noise", "photos"}
    assert evaluation.strange_images((8, 8, 1), 10, ["cat", "dog"], 0).keys() == {"noise", "photos", "digits"}


def test_the_outlier_score_is_the_one_that_tells_noise_apart():
    near, far = RANDOM.normal(5, 1, (200, 4)), RANDOM.normal(-5, 1, (100, 4))
    same, sure = RANDOM.normal(0, 1, (200, 3)), RANDOM.normal(9, 1, (200, 3))
    options: dict[str, Any] = {"neighbours": 5, "accepted": 0.9, "temperature": 1.0}
    by_distance = evaluation.choose_outlier_score((near, same), (far, same[:100]), near, **options)
    assert len(by_distance.bank) == 200
    for features, bank in ((near, near), (near[:100], near[:0])):
        by_energy = evaluation.choose_outlier_score((near, sure), (features[:100], same[:100]), bank, **options)
        assert len(by_energy.bank) == 0
        accepted = by_energy.scores(near, sure) <= by_energy.threshold
        assert accepted.mean() == pytest.approx(0.9, abs=0.005)
    # Where both tell all of it apart, it is the one that needs no images.
    assert len(evaluation.choose_outlier_score((near, sure), (far, same[:100]), near, **options).bank) == 0


def test_wrong_labels_are_found_by_networks_that_never_saw_them():
    labels = np.arange(240) % 3
    images = RANDOM.integers(0, 60, (240, 12, 12, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 2] += np.uint8(180)
    planted = np.arange(0, 240, 20)
    given = labels.copy()
    given[planted] = (labels[planted] + 1) % 3
    probabilities = evaluation.held_out_probabilities(images, given, 3, steps=60, batch_size=32, lr=5e-3, seed=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    indices, suggested, _ = suspected_labels(probabilities, given)
    assert set(planted) >= set(indices[:6])
    assert len(set(indices) & set(planted)) >= 8
    here = np.isin(indices, planted)
    np.testing.assert_array_equal(suggested[here], labels[indices[here]])


def test_tables_without_rows_have_a_header(tmp_path):
    evaluation.write_rows(tmp_path / "a.csv", ["x", "y"], [])
    evaluation.write_rows(tmp_path / "b.csv", ["x", "y"], [{"x": 1, "y": "a"}])
    assert (tmp_path / "a.csv").read_text() == "x,y\n"
    assert (tmp_path / "b.csv").read_text() == "x,y\n1,a\n"
