"""The page data/evaluate_gan/report.md: the metrics with their meanings, and the pictures."""

from collections.abc import Mapping

from stages.evaluation.generator.table import METRICS
from stages.evaluation.reporting.markdown import interval, number, shown, table
from stages.evaluation.reporting.metric import SECOND, Metric

PICTURES = """
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

Which classes are made well ([table](classes.csv)). With few images most of a distance is the bias of small
samples, which the distance of the train images has as well:

![Distance by class](classes.png)
"""


def write_page(values: Mapping[str, float], compared: int, conditional: bool, near_copy: float) -> str:
    """The page for the section `gan` of metrics.json, `values`; compared: the number of generated and of test images;
    near_copy: the share of test images that count as near copies."""
    note = "" if conditional else "\nIt was trained without classes: its label accuracy and CAS are those of chance.\n"
    head = ("figure", "value", "by the second reference", "real images", "meaning")
    rows = [_row(values, metric, near_copy) for metric in shown(METRICS, values)]
    return f"""# Evaluation of the generator

{compared:,} generated against {compared:,} test images. The second reference is a network of another seed: a figure
that differs between the two depends on the network.

{table(head, rows)}
{note}{PICTURES}"""


def _row(values: Mapping[str, float], metric: Metric, near_copy: float) -> list[str]:
    real = "" if metric.reference.isidentifier() else metric.reference
    if metric.reference == "share":
        real = f"{near_copy:g}"
    elif metric.reference in values:
        real = number(values, metric.reference, metric.digits)
    second = _with_interval(values, metric.name + SECOND, metric.digits)
    of_real = number(values, metric.reference + SECOND, metric.digits)  # it depends on the reference
    return [
        metric.label,
        _with_interval(values, metric.name, metric.digits),
        f"{second} (real {of_real})" if of_real else second,
        real,
        metric.meaning,
    ]


def _with_interval(values: Mapping[str, float], name: str, digits: int) -> str:
    between = interval(values, name, digits)
    return number(values, name, digits) + (f" ({between})" if between else "")
