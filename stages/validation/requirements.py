"""The expectations about a data set, which refer to its tables (see stages.validation.tables)."""

from collections.abc import Sequence

from stages.core.dataset import SPLITS
from stages.validation.expectations import Expectation


def data_set_expectations(
    classes: Sequence[str],
    shape: str,
    *,
    min_images_per_class: int,
    min_images_per_split: int,
    max_absent_classes: float,
    max_imbalance: float,
    max_duplicates: float,
    max_two_labels: float,
    max_rejected: float,
    min_std: float,
    max_blank: float,
    min_brightness: float,
    max_brightness: float,
    max_brightness_gap: float,
) -> list[Expectation]:
    """The expectations about a data set with these class names, whose first shard holds images of `shape` (28x28x1).

    The thresholds are those of `validate` in params.yaml.
    """
    return [
        Expectation("the classes are those expected", "classes.status", "validate.classes", values=["as expected"]),
        Expectation(
            f"each class has at least {min_images_per_class} train images",
            "classes.train_images", "validate.min_images_per_class", low=min_images_per_class,
        ),
        Expectation(
            f"train, val and test have at least {min_images_per_split} images each "
            "(if not: add images, or raise ingest.val_fraction or ingest.test_fraction)",
            "splits.images_in_manifest", "validate.min_images_per_split", low=min_images_per_split,
        ),
        *(
            Expectation(
                f"at most {max_absent_classes:.4g} of the classes are absent from {split} "
                f"(if not: add images, or raise ingest.{split}_fraction)",
                f"classes.{split}_images", "validate.max_absent_classes", low=1, tolerance=max_absent_classes,
            )
            for split in ("val", "test")
        ),
        Expectation(
            f"no class has more than {max_imbalance:g} times the train images of another",
            "classes.imbalance", "validate.max_imbalance", high=max_imbalance,
        ),
        Expectation(
            f"at most {max_duplicates:.4g} of the files are duplicates",
            "files.outcome", "validate.max_duplicates", values=["accepted", "rejected"], tolerance=max_duplicates,
        ),
        Expectation(
            f"at most {max_rejected:.4g} of the files are rejected for other reasons",
            "files.outcome", "validate.max_rejected", values=["accepted", "duplicate"], tolerance=max_rejected,
        ),
        Expectation(
            f"at most {max_two_labels:.4g} of the files show an image found under two labels",
            "files.labels_of_its_pixels", "validate.max_two_labels", high=1, tolerance=max_two_labels,
        ),
        Expectation(
            f"at most {max_blank:.4g} of the images are blank (std below {min_std:g})",
            "images.std", "validate.max_blank", low=min_std, tolerance=max_blank,
        ),
        Expectation(
            f"the mean brightness of each class is {min_brightness:g} to {max_brightness:g}",
            "classes.brightness", "validate.min_brightness", low=min_brightness, high=max_brightness,
        ),
        Expectation(
            f"the mean brightness of each class is within {max_brightness_gap:g} of the median class",
            "classes.brightness_gap", "validate.max_brightness_gap", high=max_brightness_gap,
        ),
        Expectation("each label is a class", "images.label", low=0, high=len(classes) - 1),
        Expectation("each label stands for its class", "images.class", equals="class_of_label"),
        Expectation("each split is train, val or test", "images.split", values=SPLITS),
        Expectation(
            "the arrays hold as many images as the manifest", "splits.images_in_shards", equals="images_in_manifest"
        ),
        Expectation("the arrays are uint8", "shards.dtype", values=["uint8"]),
        Expectation(f"all images are {shape}", "shards.shape", values=[shape]),
    ]  # fmt: skip
