"""The generator in the tables of networks and of metrics."""

from pathlib import Path

from stages.evaluation.reporting.metric import Metric
from stages.serving.registry.network import Network

NETWORK = Network(
    section="gan",
    model="visionloop-gan",
    file=Path("data/train_gan/generator.keras"),
    serve=Path("stages/serving/generator/model.py"),
    title="Generator",
    phrase="a generator",
    input_ranks=(1, 0),
)

METRICS = (
    Metric("fd", "FD", 3, "lower", "fd_floor", "Frechet distance in the reference space; lower is better"),
    Metric("fd_floor", "FD of real images", 3, None, "", "the same between train and test images"),
    Metric(
        "fd_infinity", "FD at infinity", 3, "lower", "fd_infinity_floor",
        "extrapolated to infinitely many images; may be below 0",
    ),
    Metric("fd_infinity_floor", "FD at infinity of real images", 3, None, "", "the same of train and test images"),
    Metric(
        "fd_class_mean", "FD by class", 3, "lower", "fd_class_floor", "mean over the classes with enough images"
    ),
    Metric("fd_class_floor", "FD by class of real images", 3, None, "", "the same of train and test images"),
    Metric("fd_classes", "classes with an FD", 0, None, "", "classes with enough images for a distance of their own"),
    Metric("kid", "KID", 4, "lower", "0", "kernel distance, unbiased, with its 95% interval"),
    Metric("precision", "precision", 3, "higher", "", "share of generated images that look real"),
    Metric("recall", "recall", 3, "higher", "", "share of real images that the generator can make"),
    Metric(
        "density", "density", 3, None, "1",
        "how deep among real images generated ones are; low where many look like nothing real",
    ),
    Metric(
        "coverage", "coverage", 3, "higher", "coverage_expected", "share of real images with a generated one nearby"
    ),
    Metric("coverage_expected", "expected coverage", 3, None, "", "what a perfect generator would have"),
    Metric("label_accuracy", "label accuracy", 3, "higher", "label_accuracy_real", "share that shows its class"),
    Metric(
        "label_accuracy_real", "label accuracy of real images", 3, None, "",
        "share of test images in which the reference sees their class",
    ),
    Metric("cas", "CAS", 3, "higher", "", "test accuracy of a classifier trained on generated images only"),
    Metric(
        "memorisation_ratio", "distance to train images", 3, None, "1",
        "median, over that of test images; near 0 for copies",
    ),
    Metric(
        "memorisation_ratio_pixels", "... as plain pixels", 3, None, "1", "the same of root mean square differences"
    ),
    Metric(
        "near_copies", "near copies", 4, "lower", "share",
        "share as near to a train image as the nearest few test images are",
    ),
    Metric(
        "near_copies_pixels", "... as plain pixels", 4, "lower", "share", "the same of root mean square differences"
    ),
    Metric("val_fd", "validation FD", 3, "lower", "", "Frechet distance to the validation images", "val"),
    Metric(
        "val_diversity", "validation diversity", 3, None, "1",
        "spread of the generated images' features over that of real ones",
        "val",
    ),
    Metric("val_label_accuracy", "validation label accuracy", 4, "higher", "", "share that shows its class", "val"),
    Metric("best_step", "best step", 0, None, "", "after which the saved generator was taken", "val"),
    Metric("weights", "weights", 0, None, "", "numbers in the generator", "val"),
)  # fmt: skip
