import numpy as np
import pytest

from stages.evaluate import EvaluateParams, classifier_metrics, draw_classifier, generator_metrics, write_report

RANDOM = np.random.default_rng(0)
PARAMS = EvaluateParams(
    images=100,
    kid_subsets=10,
    kid_subset_size=50,
    cas_images=100,
    cas_steps=1,
    cas_batch_size=10,
    cas_lr=0.01,
    seed=0,
)


def test_a_perfect_classifier():
    labels = RANDOM.integers(0, 3, 60)
    found = classifier_metrics(np.eye(3)[labels], labels)
    assert found["accuracy"] == found["accuracy_high"] == found["macro_f1"] == 1
    assert found["accuracy_low"] == pytest.approx(60 / (60 + 1.959964**2))
    assert found["nll"] == found["ece"] == 0


def test_a_perfect_generator_is_as_far_from_the_test_images_as_the_train_images_are():
    fake, test, train = RANDOM.normal(size=(3, 400, 4))
    found = generator_metrics(fake, test, train, PARAMS)
    assert found["fd"] == pytest.approx(found["fd_floor"], abs=0.1)
    assert abs(found["kid"]) < 4 * found["kid_error"]
    worse = generator_metrics(fake + 3, test, train, PARAMS)
    assert worse["fd"] > 20 * worse["fd_floor"]
    assert worse["fd_floor"] == found["fd_floor"]
    assert worse["precision"] < found["precision"]


@pytest.mark.parametrize("conditional", [True, False])
def test_the_report_says_what_the_figures_of_a_generator_without_classes_are_worth(conditional):
    cnn = dict.fromkeys(("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "nll", "ece"), 0.5)
    names = (
        "fd",
        "fd_floor",
        "kid",
        "kid_error",
        "precision",
        "recall",
        "label_accuracy",
        "label_accuracy_real",
        "cas",
    )
    report = write_report({"cnn": cnn, "gan": dict.fromkeys(names, 0.25)}, 100, 50, conditional)
    assert "100 test images" in report
    assert "50 generated" in report
    assert ("those of chance" in report) is not conditional


@pytest.mark.parametrize("mistakes", [0, 3])
def test_pictures_of_the_classifier_are_drawn_with_and_without_mistakes(tmp_path, mistakes):
    labels = np.arange(20) % 2
    predicted = np.where(np.arange(20) < mistakes, 1 - labels, labels)
    images = RANDOM.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    draw_classifier(tmp_path, images, labels, 0.8 * np.eye(2)[predicted] + 0.1, ["cat", "dog"])
    assert {path.name for path in tmp_path.iterdir()} == {"confusion.png", "reliability.png", "mistakes.png"}
