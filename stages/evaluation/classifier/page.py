"""The page data/evaluate_cnn/report.md: the metrics with their meanings, and the pictures."""

from collections.abc import Mapping

from stages.evaluation.classifier.table import METRICS
from stages.evaluation.reporting.markdown import interval, number, shown, table

PICTURES = """
Where the classes are confused, and where the confidence does not match the accuracy:

![Confusion matrix](confusion.png)
![Reliability diagram](reliability.png)

The mistakes that remain when it leaves the images that it is least sure of to somebody else:

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


def write_page(values: Mapping[str, float], images: int) -> str:
    """The page for the section `cnn` of metrics.json, `values`; images: the number of test images."""
    rows = [
        [m.label, number(values, m.name, m.digits), interval(values, m.name, m.digits), m.meaning]
        for m in shown(METRICS, values)
    ]
    return f"""# Evaluation of the classifier

On {images:,} test images:

{table(("figure", "value", "95% interval", "meaning"), rows)}
{PICTURES}"""
