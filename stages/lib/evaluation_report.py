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


def write_report(metrics: Mapping[str, Mapping[str, float]], test_count: int, compared: int, conditional: bool) -> str:
    """The text for the sections `cnn` and `gan` of metrics.json; compared: generated images, and as many test ones."""
    cnn, gan = metrics["cnn"], metrics["gan"]
    note = "" if conditional else "\nIt was trained without classes: its label accuracy and CAS are those of chance.\n"
    rows = "\n".join(_row(cnn, name) for name in CLASSIFIER if name in cnn)
    return f"""# Evaluation

## Classifier, {test_count:,} test images

| figure | value | 95% interval | meaning |
|---|---|---|---|
{rows}
{PICTURES}
## Generator, {compared:,} generated against {compared:,} test images

| figure | value | real images | meaning |
|---|---|---|---|
| FD | {gan["fd"]:.3f} | {gan["fd_floor"]:.3f} | Frechet distance in the reference space; lower is better |
| KID | {gan["kid"]:.4f} ± {gan["kid_error"]:.4f} | 0 | unbiased kernel distance and its standard error |
| precision | {gan["precision"]:.3f} | | share of generated images that look real |
| recall | {gan["recall"]:.3f} | | share of real images that the generator can make |
| label accuracy | {gan["label_accuracy"]:.3f} | {gan["label_accuracy_real"]:.3f} | share that shows its class |
| CAS | {gan["cas"]:.3f} | | test accuracy of a classifier trained on generated images only |
{note}
Generated images, and the train images nearest to them: a copy would be a generated image beside its twin.

![Samples](samples.png)
![Nearest train images](neighbours.png)
"""


def _row(figures: Mapping[str, float], name: str) -> str:
    label, digits, meaning = CLASSIFIER[name]
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    between = "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"
    return f"| {label} | {figures[name]:.{digits}f} | {between} | {meaning} |"
