"""The classifier in the tables of networks and of metrics."""

from pathlib import Path

from stages.evaluation.reporting.metric import Metric
from stages.serving.registry.network import Network

NETWORK = Network(
    section="cnn",
    model="visionloop-cnn",
    file=Path("data/train_cnn/model.keras"),
    serve=Path("stages/serving/classifier/model.py"),
    title="Classifier",
    phrase="a classifier, which takes images",
    input_ranks=(3,),
)

METRICS = (
    Metric("accuracy", "accuracy", 4, "higher", "", "share of images classified right"),
    Metric("macro_f1", "macro F1", 4, "higher", "", "mean over classes: rare ones count as much as frequent ones"),
    Metric(
        "top3_accuracy", "top-3 accuracy", 4, "higher", "",
        "share of images whose class is among the three most probable",
    ),
    Metric(
        "top5_accuracy", "top-5 accuracy", 4, "higher", "",
        "share of images whose class is among the five most probable; from 20 classes on",
    ),
    Metric("nll", "NLL", 4, "lower", "", "negative log-likelihood, nats; lower is better"),
    Metric(
        "nll_calibrated", "NLL, calibrated", 4, "lower", "",
        "after temperature scaling, as the registered model answers",
    ),
    Metric("brier", "Brier score", 4, "lower", "", "squared distance of the probabilities from the truth, 0 to 2"),
    Metric("brier_calibrated", "Brier score, calibrated", 4, "lower", "", "after temperature scaling"),
    Metric("ece", "ECE", 4, "lower", "", "expected gap between confidence and accuracy; 0 is perfect"),
    Metric("ece_calibrated", "ECE, calibrated", 4, "lower", "", "after temperature scaling"),
    Metric(
        "temperature", "temperature", 3, None, "",
        "fitted on the validation images; above 1 the network was too sure of itself",
    ),
    Metric(
        "aurc", "AURC", 5, "lower", "",
        "mean share of mistakes over all shares of images answered, most confident first",
    ),
    Metric(
        "corrupted_accuracy", "corrupted accuracy", 4, "higher", "", "mean over 15 corruptions of the test images"
    ),
    Metric(
        "auroc_noise", "AUROC noise", 4, "higher", "",
        "share of pairs in which noise has a higher outlier score than a test image",
    ),
    Metric("auroc_photos", "AUROC photos", 4, "higher", "", "the same for patches of photographs"),
    Metric("auroc_digits", "AUROC digits", 4, "higher", "", "the same for handwritten digits"),
    Metric(
        "suspected_test_labels", "suspected test labels", 0, None, "", "labels of test images that are probably wrong"
    ),
    Metric(
        "suspected_train_labels", "suspected train labels", 0, None, "",
        "labels of train images that are probably wrong",
    ),
    Metric("val_accuracy", "validation accuracy", 4, "higher", "", "share of images classified right", "val"),
    Metric("val_nll", "validation NLL", 4, "lower", "", "negative log-likelihood, nats", "val"),
    Metric("best_epoch", "best epoch", 0, None, "", "after which the saved network was taken", "val"),
    Metric("weights", "weights", 0, None, "", "numbers in the network", "val"),
)  # fmt: skip
