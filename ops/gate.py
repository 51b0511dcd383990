"""The gate: weighs a candidate against the champion by what both made of the same images.

Functions of arrays; the policy is promotion.yaml's. A model without a champion is held to the policy's floors alone.
"""

import html
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from stages.lib import classification_metrics as classification
from stages.lib import generative_metrics as generative
from stages.lib.params import Params, load_params

POLICY = Path("promotion.yaml")
CNN, GAN = "visionloop-cnn", "visionloop-gan"
LOWER_IS_BETTER = ("nll", "ece", "kid", "fd")
RIGHT = ("candidate", "difference")  # columns of numbers, beside that of the champion
SHOWN_CLASSES = 20
ELEMENTS_AT_A_TIME = 2**24  # of a matrix of weights, float32: 64 MiB
ROWS_AT_A_TIME = 1000  # of a distance matrix

Margin = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class ClassifierPolicy(Params):
    """Section `cnn` of promotion.yaml."""

    main: Literal["accuracy", "macro_f1", "nll"]
    level: float = Field(gt=0, lt=0.5)
    resamples: int = Field(ge=100, le=100_000)
    seed: int = Field(ge=0, lt=2**31)
    guards: dict[Literal["accuracy", "macro_f1", "nll", "ece"], Margin]
    class_recall: Share | None
    floors: dict[Literal["accuracy", "macro_f1"], Share]


class GeneratorPolicy(Params):
    """Section `gan` of promotion.yaml."""

    main: Literal["kid"]
    level: float = Field(gt=0, lt=0.5)
    permutations: int = Field(ge=100, le=100_000)
    images: int = Field(ge=10, le=20_000)
    seed: int = Field(ge=0, lt=2**31)
    guards: dict[Literal["precision", "recall", "label_accuracy"], Annotated[float, Field(gt=0, le=1)]]
    floors: dict[Literal["precision", "recall", "label_accuracy"], Share]

    @model_validator(mode="after")
    def _p_can_reach_the_level(self) -> Self:
        if self.permutations < 1 / self.level:
            raise ValueError("permutations must be at least 1 / level, or no p-value could be that small")
        return self


def classifier_policy(path: Path = POLICY) -> ClassifierPolicy:
    """The policy for classifiers. Raises UserError naming the key that is wrong."""
    return load_params(ClassifierPolicy, "cnn", path)


def generator_policy(path: Path = POLICY) -> GeneratorPolicy:
    """The policy for generators. Raises UserError naming the key that is wrong."""
    return load_params(GeneratorPolicy, "gan", path)


# ---------------------------------------------------------------- decisions


class Line(NamedTuple):
    """A row of the table."""

    metric: str  # "accuracy", "recall of cat", "kid", ...
    champion: float | None  # None for a first model
    candidate: float
    difference: float | None  # candidate - champion
    low: float | None  # interval of the difference at the policy's level, 95% as shipped
    high: float | None
    rule: str  # what the policy asks, in words; "" when only shown
    passed: bool


class Decision(NamedTuple):
    """What the gate says of a candidate, and why."""

    model: str  # "visionloop-cnn" or "visionloop-gan"
    promote: bool
    reason: str  # one sentence a person understands
    lines: list[Line]

    def markdown(self, champion: str = "champion", verdict: bool = True) -> str:
        """A GitHub table without a heading, and the reason below it; `champion` names the column of the other model."""
        head, *rows = self._rows(champion)
        marks = {"yes": "✓", "NO": "✗"}
        table = [head, ["---:" if name in RIGHT or name == champion else "---" for name in head]]
        table += [[markdown_safe(name), *(marks.get(cell, cell) for cell in cells)] for name, *cells in rows]
        text = "\n".join("| " + " | ".join(row) + " |" for row in table) + "\n" if rows else ""
        return f"{text}\n**{self.verdict()}** {markdown_safe(self.reason)}\n".lstrip() if verdict else text

    def table(self, champion: str = "champion") -> list[str]:
        """The rows as aligned text, at most 100 columns wide; empty where there is nothing to show."""
        head, *rows = self._rows(champion)
        shown = [head] + [[_shortened(_printable(name)), *cells] for name, *cells in rows]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        right = [name in RIGHT or name == champion for name in head]
        lines = [
            "  ".join(
                cell.rjust(width) if r else cell.ljust(width) for r, cell, width in zip(right, row, widths, strict=True)
            )
            for row in shown
        ]
        return [line.rstrip() for line in lines] if rows else []

    def _rows(self, champion: str) -> list[list[str]]:
        """The head and a row per line, without the columns in which nothing stands."""
        head = ["metric", champion, "candidate", "difference", "interval", "asked for", "met"]
        columns = list(zip(*map(_cells, self.lines), strict=True))
        kept = [k for k, column in enumerate(columns) if any(column)]
        return [[head[k] for k in kept], *([columns[k][row] for k in kept] for row in range(len(self.lines)))]

    def verdict(self) -> str:
        """The reason goes on from here."""
        return "Promote:" if self.promote else "Do not promote:"


def _cells(line: Line) -> tuple[str, ...]:
    digits = _digits(line.candidate, line.champion or 0)
    return (
        line.metric,
        "" if line.champion is None else f"{line.champion:.{digits}f}",
        f"{line.candidate:.{digits}f}",
        "" if line.difference is None else f"{line.difference:+.{digits}f}",
        "" if line.low is None else f"{line.low:+.{digits}f} to {line.high:+.{digits}f}",
        line.rule,
        ("yes" if line.passed else "NO") if line.rule else "",
    )


def _digits(*values: float) -> int:
    """Decimals to show: kernel distances can be small."""
    return 5 if 0 < max(map(abs, values)) < 0.01 else 4


def _shortened(text: str, length: int = 20) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def markdown_safe(text: str) -> str:
    """Names of classes come from the data: nothing in them may end a cell, mark up, link or call somebody."""
    escaped = html.escape(_printable(text), quote=False)
    return "".join(f"&#{ord(character)};" if character in "|`*[]~@\\$" else character for character in escaped)


class _Judge:
    """Collects the lines of a decision and what speaks against the candidate."""

    def __init__(self, policy: ClassifierPolicy | GeneratorPolicy, first: bool):
        self.policy, self.first = policy, first
        self.guards = {str(name): margin for name, margin in policy.guards.items()}
        self.floors = {str(name): least for name, least in policy.floors.items()}
        self.percent = f"{100 * (1 - 2 * policy.level):g}%"
        self.lines: list[Line] = []
        self.against: list[str] = []
        self.gain = ""

    def metric(
        self,
        name: str,
        champion: float | None,
        candidate: float,
        interval: tuple[float, float] | None = None,
        p: float | None = None,
    ) -> None:
        """Adds a metric. interval: of the difference. p: what has to reach the level too, for the main metric."""
        rules, objections = [], []  # comparisons are written so that NaN passes none of them
        difference = None if champion is None else candidate - champion
        low, high = interval or (None, None)
        if low is not None and high is not None:
            change = self._change(candidate, champion, low, high) + ("" if p is None else f", p {p:.3f}")
            worst = high if name in LOWER_IS_BETTER else -low  # how much worse it may be, below 0 when it is better
            side, sign = ("below", 1) if name in LOWER_IS_BETTER else ("above", -1)
            if name == self.policy.main:
                rules.append(f"{side} 0" if p is None else f"{side} 0, p ≤ {self.policy.level:g}")
                if worst < 0 and (p is None or p <= self.policy.level):
                    self.gain = f"{name} is better ({change})"
                else:
                    objections.append(f"{name} is not shown to be better ({change})")
            if name in self.guards:
                rules.append(f"{side} {sign * self.guards[name]:+g}")
                if not worst <= self.guards[name]:
                    objections.append(f"{name} may be worse by more than {self.guards[name]:g} ({change})")
        if name in self.floors:
            rules.append(f"≥ {self.floors[name]:g}")
            if not candidate >= self.floors[name]:
                objections.append(f"{name} {candidate:.4f} is below the floor of {self.floors[name]:g}")
        self.against += objections
        self.lines.append(Line(name, champion, candidate, difference, low, high, ", ".join(rules), not objections))

    def recall(
        self, of: str, champion: float, candidate: float, interval: tuple[float, float], margin: float | None
    ) -> None:
        """Adds the recall of a class, which fails when it falls by more than the margin, beyond chance."""
        name, difference = f"recall of {of}", candidate - champion
        failed = margin is not None and difference < -margin and interval[1] < 0
        if failed:
            self.against.append(
                f"{name} falls by more than {margin:g} ({self._change(candidate, champion, *interval)})"
            )
        rule = "" if margin is None else f"{-margin:+g} or chance"
        self.lines.append(Line(name, champion, candidate, difference, *interval, rule, not failed))

    def _change(self, candidate: float, champion: float | None, low: float, high: float) -> str:
        form = f"+.{_digits(candidate, champion or 0)}f"
        return f"{candidate - (champion or 0):{form}}, {self.percent} interval {low:{form}} to {high:{form}}"

    def decision(self, model: str) -> Decision:
        if self.against:
            reason = "; ".join(self.against)
        elif self.first:
            reason = "it is the first model, and above every floor"
        else:
            reason = f"{self.gain}, and nothing guarded is worse than the policy allows"
        return Decision(model, not self.against, reason, self.lines)


# ---------------------------------------------------------------- classifiers


def compare_classifiers(
    champion: np.ndarray | None,
    candidate: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    policy: ClassifierPolicy,
) -> Decision:
    """Weighs two classifiers by their probabilities, float64 [n, classes], for the same images with labels int [n].

    The intervals are percentiles of a paired bootstrap over the images (Efron 1979): both models are measured on the
    same resampled images, so that what is hard for both cancels. Rows need not add up to 1, where a model does not know
    all classes. Raises ValueError when the shapes do not agree, or probabilities are no numbers.
    """
    for probabilities in (candidate,) if champion is None else (candidate, champion):
        if probabilities.shape != (len(labels), len(classes)):
            raise ValueError(f"expected probabilities [{len(labels)}, {len(classes)}], got {list(probabilities.shape)}")
        if not np.isfinite(probabilities).all():
            raise ValueError("expected probabilities, and some are no numbers")
    judge = _Judge(policy, champion is None)
    ours = _classifier_figures(candidate, labels)
    recalls = _recalls(candidate, labels)
    present = np.flatnonzero(~np.isnan(recalls))
    if champion is None:
        for name, value in ours.items():
            judge.metric(name, None, value)
        lowest = present[np.argsort(recalls[present], kind="stable")[:SHOWN_CLASSES]]
        for k in np.sort(lowest):
            judge.lines.append(Line(f"recall of {classes[k]}", None, float(recalls[k]), None, None, None, "", True))
        return judge.decision(CNN)
    theirs, their_recalls = _classifier_figures(champion, labels), _recalls(champion, labels)
    differences, recall_differences = _bootstrap(champion, candidate, labels, policy.resamples, policy.seed)
    ends = [policy.level, 1 - policy.level]
    for name, value in ours.items():
        low, high = (float(end) for end in np.quantile(differences[name], ends))
        judge.metric(name, theirs[name], value, (low, high))
    low_recalls, high_recalls = np.quantile(recall_differences, ends, axis=0)
    change = recalls - their_recalls
    # Of many classes, those that lose most; a class that fails is never left out.
    beyond = (change < -(policy.class_recall if policy.class_recall is not None else 2)) & (high_recalls < 0)
    shown = present[np.lexsort((change[present], ~beyond[present]))]
    for k in np.sort(shown[: max(SHOWN_CLASSES, int(beyond.sum()))]):
        interval = float(low_recalls[k]), float(high_recalls[k])
        judge.recall(classes[k], float(their_recalls[k]), float(recalls[k]), interval, policy.class_recall)
    return judge.decision(CNN)


def _classifier_figures(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": classification.accuracy(probabilities, labels),
        "macro_f1": classification.macro_f1(probabilities, labels),
        "nll": classification.negative_log_likelihood(probabilities, labels),
        "ece": classification.expected_calibration_error(probabilities, labels),
    }


def _recalls(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of each class's images that are recognised, [classes]; NaN where there are none."""
    matrix = classification.confusion_matrix(probabilities, labels)
    with np.errstate(invalid="ignore"):
        return np.diag(matrix) / matrix.sum(axis=1)


def _bootstrap(
    champion: np.ndarray, candidate: np.ndarray, labels: np.ndarray, resamples: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Differences candidate - champion on resampled images: of metrics [resamples], of recalls [resamples, classes].

    Every metric is a function of sums over the images, so that one product of the matrix of how often each image was
    drawn with a matrix of what each image adds gives them all.
    """
    count, classes = champion.shape
    bins = classification.CALIBRATION_BINS
    columns, values, starts, width = [labels], [np.ones(count)], [], classes
    for probabilities in (champion, candidate):
        predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
        hits = (predicted == labels).astype(float)
        bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
        loss = -np.log(np.clip(probabilities[np.arange(count), labels], 1e-12, None))
        starts.append(width)
        for column, value in (
            (labels, hits),
            (classes + predicted, np.ones(count)),
            (2 * classes + bin_of, confidence - hits),
        ):
            columns.append(width + column)
            values.append(value)
        columns.append(np.full(count, width + 2 * classes + bins))
        values.append(loss)
        width += 2 * classes + bins + 1
    sums = _resampled_sums(np.stack(columns, axis=1), np.stack(values, axis=1), width, resamples, seed)
    occurring = sums[:, :classes]
    figures, recalls = [], []
    for start in starts:
        hits, predicted = sums[:, start : start + classes], sums[:, start + classes : start + 2 * classes]
        gaps = sums[:, start + 2 * classes : start + 2 * classes + bins]
        figures.append(
            {
                "accuracy": hits.sum(axis=1) / count,
                "macro_f1": np.mean(2 * hits / np.maximum(occurring + predicted, 1), axis=1),
                "nll": sums[:, start + 2 * classes + bins] / count,
                "ece": np.abs(gaps).sum(axis=1) / count,
            }
        )
        recalls.append(hits / np.maximum(occurring, 1))
    return {name: figures[1][name] - figures[0][name] for name in figures[0]}, recalls[1] - recalls[0]


def _resampled_sums(columns: np.ndarray, values: np.ndarray, width: int, resamples: int, seed: int) -> np.ndarray:
    """Sums [resamples, width] over resampled images, when image i adds values[i, j] to column columns[i, j]; both are
    [n, j]. In parts, so that memory stays bounded for many images or classes."""
    count = len(columns)
    sums = np.empty((resamples, width))
    rows_at_a_time = max(1, ELEMENTS_AT_A_TIME // count)
    wide = max(64, ELEMENTS_AT_A_TIME // count)
    for left in range(0, width, wide):
        right = min(left + wide, width)
        parts = np.zeros((count, right - left), np.float32)
        inside = (columns >= left) & (columns < right)
        parts[np.nonzero(inside)[0], columns[inside] - left] = values[inside]
        for part, first in enumerate(range(0, resamples, rows_at_a_time)):
            weights = _weights(count, min(rows_at_a_time, resamples - first), seed, part)
            sums[first : first + len(weights), left:right] = weights @ parts
    return sums


@lru_cache(maxsize=2)
def _weights(count: int, resamples: int, seed: int, part: int) -> np.ndarray:
    """How often each of `count` images is drawn in each resample: multinomial, float32 [resamples, count]."""
    random = np.random.default_rng([seed, part])
    weights = np.empty((resamples, count), np.float32)
    for row in weights:
        row[:] = np.bincount(random.integers(0, count, count), minlength=count)
    return weights


# ---------------------------------------------------------------- generators


class Generated(NamedTuple):
    """What a generator made, in the reference space; the k-th images of two generators are of the same class."""

    features: np.ndarray  # float64 [n, d]
    label_hits: np.ndarray  # bool [n]: the reference sees the class that was asked for


def compare_generators(
    champion: Generated | None, candidate: Generated, real: np.ndarray, policy: GeneratorPolicy
) -> Decision:
    """Weighs two generators by images made for the same n labels, against features [m, d] of test images.

    The difference of their kernel distances has to pass two tests, because each covers what the other does not. The
    permutation test (`kernel_test`) is exact for two generators of one distribution, whatever the sample. The interval
    also holds for generators that differ and are equally far from the real images, and contains the luck of which test
    images there are. Precision and label accuracy: independent shares (Newcombe 1998). Recall: paired over the real
    images. Raises ValueError when the shapes do not agree.
    """
    expected = candidate.features.shape[:1] + real.shape[1:]
    for side in (candidate,) if champion is None else (candidate, champion):
        if side.features.shape != expected or len(side.label_hits) != len(side.features):
            raise ValueError(
                f"expected features {list(expected)} and a hit for each, got features {list(side.features.shape)} and "
                f"{len(side.label_hits)} hits"
            )
    judge = _Judge(policy, champion is None)
    ours, our_recalled = _generator_figures(candidate, real)
    if champion is None:
        for name, value in ours.items():
            judge.metric(name, None, value)
        return judge.decision(GAN)
    theirs, their_recalled = _generator_figures(champion, real)
    test = kernel_test(champion.features, candidate.features, real, policy.permutations, policy.seed)
    z = NormalDist().inv_cdf(1 - policy.level)
    recalled = our_recalled.astype(float) - their_recalled
    intervals = {
        "kid": _normal_interval(test.difference, test.error, z),
        "recall": _normal_interval(recalled.mean(), recalled.std(ddof=1) / np.sqrt(len(real)), z),
    } | {
        name: newcombe_interval(theirs[name], ours[name], len(candidate.label_hits), z)
        for name in ("precision", "label_accuracy")
    }
    for name, value in ours.items():
        judge.metric(name, theirs[name], value, intervals.get(name), test.p if name == policy.main else None)
    return judge.decision(GAN)


def _generator_figures(made: Generated, real: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """The figures of a generator, and which of the real images lie in its manifold, bool [m]."""
    recalled = generative.inside_manifold(real, made.features)
    figures = {
        "kid": kernel_distance(made.features, real),
        "fd": generative.frechet_distance(made.features, real),
        "precision": float(generative.inside_manifold(made.features, real).mean()),
        "recall": float(recalled.mean()),
        "label_accuracy": float(made.label_hits.mean()),
    }
    return figures, recalled


def _normal_interval(value: float, error: float, z: float) -> tuple[float, float]:
    return float(value - z * error), float(value + z * error)


class KernelTest(NamedTuple):
    """The outcome of `kernel_test`."""

    difference: float  # KID of the candidate - KID of the champion: below 0 is better
    error: float  # standard error of it
    p: float  # one-sided: how often two generators of one distribution give as good a candidate


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of all images, with KID's kernel (x.y / d + 1)^3 (Binkowski et al.
    2018); around 0, and at times below, for sets of one distribution."""
    within = sum((_row_sums(x, x) - _own(x)).sum() / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(within - 2 * _row_sums(a, b).sum() / (len(a) * len(b)))


def kernel_test(
    champion: np.ndarray, candidate: np.ndarray, real: np.ndarray, permutations: int, seed: int
) -> KernelTest:
    """Whether the candidate's images [n, d] are closer to the real ones [m, d] than the champion's [n, d].

    The statistic is the difference of the two unbiased kernel distances (Bounliphone et al. 2016), in which the term of
    the real images cancels. With signs s = 1 for the candidate's images and -1 for the champion's, and K the kernel
    between all 2n with a diagonal of 0, the difference of the two sums within is 1'Ks: linear in s, and so is the rest.
    Therefore a permutation costs one scalar product. Permuted is within each pair that was asked for the same class:
    exact for generators of one distribution, and not widened by classes that differ.

    The error is that of the jackknife for U-statistics (Arvesen 1969) to first order: the spread of what each pair and
    each real image adds.
    """
    n, m = len(candidate), len(real)
    pooled = np.concatenate([candidate, champion])
    to_generated, to_real = _row_sums(pooled, pooled) - _own(pooled), _row_sums(pooled, real)
    weights = to_generated / (n * (n - 1)) - 2 * to_real / (n * m)
    swaps = weights[:n] - weights[n:]
    difference = float(swaps.sum())
    signs = np.random.default_rng(seed).integers(0, 2, (permutations, n), dtype=np.int8) * 2 - 1
    as_good = int(np.sum(signs @ swaps <= difference + 1e-12 * np.abs(swaps).sum()))

    each = [
        (_row_sums(x, x) - _own(x)) / (n - 1) - part / m
        for x, part in ((candidate, to_real[:n]), (champion, to_real[n:]))
    ]
    reals = (_row_sums(real, champion) - _row_sums(real, candidate)) / n
    variance = 4 * (np.var(each[0] - each[1], ddof=1) / n + np.var(reals, ddof=1) / m)
    return KernelTest(difference, float(np.sqrt(variance)), (1 + as_good) / (1 + permutations))


def _row_sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sums [n] over b [m, d] of the kernel between a [n, d] and b."""
    sums = []
    for start in range(0, len(a), ROWS_AT_A_TIME):
        base = a[start : start + ROWS_AT_A_TIME] @ b.T / b.shape[1] + 1
        sums.append((base * base * base).sum(axis=1))  # numpy takes 20 times as long for a power
    return np.concatenate(sums)


def _own(a: np.ndarray) -> np.ndarray:
    """The kernel [n] of each image with itself."""
    return ((a * a).sum(axis=1) / a.shape[1] + 1) ** 3


def newcombe_interval(before: float, after: float, count: int, z: float) -> tuple[float, float]:
    """Interval of the difference after - before of two independent shares of `count` each, made of their Wilson
    intervals (Newcombe 1998, method 10): it does not shrink to nothing at shares of 0 or 1."""
    (low_before, high_before), (low_after, high_after) = (
        classification.wilson_interval(share, count, z) for share in (before, after)
    )
    difference = after - before
    return (
        float(difference - np.hypot(after - low_after, high_before - before)),
        float(difference + np.hypot(high_after - after, before - low_before)),
    )
