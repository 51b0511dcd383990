"""report.md of evaluate: the figures with what they mean, and the pictures. Nothing in it comes from the data but
numbers: names of classes and files are in the pictures and tables."""

from collections.abc import Mapping

# Figure, decimals, meaning; a name that metrics.json may leave out is left out here too.
CLASSIFIER = {
    "accuracy": ("accuracy", 4, "share of images classified right"),
    "macro_f1": ("macro F1", 4, "mean over classes: rare ones count as much as frequent ones"),
    "top3_accuracy": ("top-3 accuracy", 4, "share of images whose class is among the three most probable"),
    "top5_accuracy": ("top-5 accuracy", 4, "share of images whose class is among the five most probable"),
    "nll": ("NLL", 4, "negative log-likelihood, nats; lower is better"),
    "nll_calibrated": ("NLL, calibrated", 4, "after temperature scaling, as the registered model answers"),
    "brier": ("Brier score", 4, "squared distance of the probabilities from the truth, 0 to 2"),
    "brier_calibrated": ("Brier score, calibrated", 4, "after temperature scaling"),
    "ece": ("ECE", 4, "expected gap between confidence and accuracy; 0 is perfect"),
    "ece_calibrated": ("ECE, calibrated", 4, "after temperature scaling"),
    "temperature": ("temperature", 3, "fitted on the validation images; above 1 the network was too sure of itself"),
    "aurc": ("AURC", 5, "mean share of mistakes over all shares of images answered, most confident first"),
    "corrupted_accuracy": ("corrupted accuracy", 4, "mean over 15 corruptions of the test images"),
    "auroc_noise": ("AUROC noise", 4, "share of pairs in which noise has a higher outlier score than a test image"),
    "auroc_photos": ("AUROC photos", 4, "the same for patches of photographs"),
    "auroc_digits": ("AUROC digits", 4, "the same for handwritten digits"),
    "suspected_test_labels": ("suspected test labels", 0, "labels of test images that are probably wrong"),
    "suspected_train_labels": ("suspected train labels", 0, "labels of train images that are probably wrong"),
}

# Figure, decimals, what real images or a perfect generator have (a figure, or a text), meaning.
GENERATOR = {
    "fd": ("FD", 3, "fd_floor", "Frechet distance in the reference space; lower is better"),
    "fd_infinity": ("FD at infinity", 3, "fd_infinity_floor", "extrapolated to infinitely many images; may be below 0"),
    "fd_class_mean": ("FD by class", 3, "fd_class_floor", "mean over the classes with enough images"),
    "kid": ("KID", 4, "0", "kernel distance, unbiased, with its 95% interval"),
    "precision": ("precision", 3, "", "share of generated images that look real"),
    "recall": ("recall", 3, "", "share of real images that the generator can make"),
    "density": (
        "density",
        3,
        "1",
        "how deep among real images generated ones are; low where many look like nothing real",
    ),
    "coverage": ("coverage", 3, "coverage_expected", "share of real images with a generated one nearby"),
    "label_accuracy": ("label accuracy", 3, "label_accuracy_real", "share that shows its class"),
    "cas": ("CAS", 3, "", "test accuracy of a classifier trained on generated images only"),
    "memorisation_ratio": ("distance to train images", 3, "1", "median, over that of test images; near 0 for copies"),
    "memorisation_ratio_pixels": ("... as plain pixels", 3, "1", "the same of root mean square differences"),
    "near_copies": ("near copies", 4, "share", "share as near to a train image as the nearest few test images are"),
    "near_copies_pixels": ("... as plain pixels", 4, "share", "the same of root mean square differences"),
}

PICTURES = """
Where the classes are confused, and where what it says of its own confidence is off:

![Confusion matrix](confusion.png)
![Reliability diagram](reliability.png)

What it would get wrong if it left the images that it is least sure of to somebody:

![Share of mistakes against share of images answered](risk_coverage.png)

Mistakes: the most frequent confusions ([all](confusions.csv), and [each class](classes.csv) by itself), the most
confident mistakes, and the train images that look most like those to the classifier, among which wrong labels show:

![Most frequent confusions](confusions.png)
![Most confident mistakes](mistakes.png)
![Most confident mistakes and the train images nearest to them](mistakes_neighbours.png)

Labels that are probably wrong, in train and test, to be looked through ([list](label_errors.csv), worst first):

![Most suspicious labels](label_errors.png)

What each corruption does to an image and to the accuracy ([table](corruptions.csv)):

![Corruptions](corruptions.png)

How well images of other kinds can be told from test images; right of the line, the registered model calls an image an
outlier:

![Outlier scores](outliers.png)

Where it sees each class, in the image of the class that it recognises best; edges or background that light up are a
reason to doubt:

![Evidence for each class](evidence.png)
"""


GENERATOR_PICTURES = """
Generated images, a walk through the latents, and the train images nearest to generated ones: a copy would be a
generated image beside its twin.

![Samples](samples.png)
![Walk through the latents](walk.webp)
![Nearest train images](neighbours.png)

How far generated images are from the train images, beside how far test images are, which nobody can have copied; and
the nearest pairs of all, in the reference space and as plain pixels:

![Distances to the nearest train image](memorisation.png)
![Nearest pairs in the reference space](copies.png)
![Nearest pairs as plain pixels](copies_pixels.png)

Which classes are made well ([table](generator_classes.csv)). With few images most of a distance is the bias of small
samples, which the distance of the train images has as well:

![Distance by class](generator_classes.png)
"""


def write_report(
    metrics: Mapping[str, Mapping[str, float]], test_count: int, compared: int, conditional: bool, near_copy: float
) -> str:
    """The text for the sections `cnn` and `gan` of metrics.json; compared: generated images, and as many test ones;
    near_copy: the share of test images that count as near copies."""
    cnn, gan = metrics["cnn"], metrics["gan"]
    note = "" if conditional else "\nIt was trained without classes: its label accuracy and CAS are those of chance.\n"
    rows = "\n".join(_classifier_row(cnn, name) for name in CLASSIFIER if name in cnn)
    made = "\n".join(_generator_row(gan, name, near_copy) for name in GENERATOR if name in gan)
    return f"""# Evaluation

## Classifier, {test_count:,} test images

| figure | value | 95% interval | meaning |
|---|---|---|---|
{rows}
{PICTURES}
## Generator, {compared:,} generated against {compared:,} test images

The second ruler is a reference network of another seed: what it says differently hangs on the network.

| figure | value | by the second ruler | real images | meaning |
|---|---|---|---|---|
{made}
{note}{GENERATOR_PICTURES}"""


def _classifier_row(figures: Mapping[str, float], name: str) -> str:
    label, digits, meaning = CLASSIFIER[name]
    return f"| {label} | {figures[name]:.{digits}f} | {_interval(figures, name, digits)} | {meaning} |"


def _generator_row(figures: Mapping[str, float], name: str, near_copy: float) -> str:
    label, digits, real, meaning = GENERATOR[name]
    cells = []
    for ruler, of_real in ((name, real), (f"{name}_second", f"{real}_second")):
        between = _interval(figures, ruler, digits)
        value = f"{figures[ruler]:.{digits}f}" if ruler in figures else ""
        value += f" ({between})" if between else ""
        # What real images have differs between the rulers.
        beside = ruler != name and of_real in figures
        cells.append(f"{value} (real {figures[of_real]:.{digits}f})" if beside else value)
    known = {"share": f"{near_copy:g}"} | {key: f"{value:.{digits}f}" for key, value in figures.items()}
    return f"| {label} | {cells[0]} | {cells[1]} | {known.get(real, '' if real.isidentifier() else real)} | {meaning} |"


def _interval(figures: Mapping[str, float], name: str, digits: int) -> str:
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    return "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"
