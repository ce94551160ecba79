"""The arithmetic of a study: curves in; passing epochs, areas, intervals and verdicts out. numpy alone.

Symbols: N measured epochs, D draws (row 0 is what was measured; further rows have other test videos, drawn from the
same), G repetitions (one seed each).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CONFIDENCE",
    "FEWEST",
    "POWER",
    "Curve",
    "Estimate",
    "Floats",
    "Question",
    "Verdict",
    "average_until",
    "estimate",
    "final_accuracy",
    "first_passing",
]

Floats = NDArray[np.float64]
Verdict = Literal["held", "did not hold", "not decided"]

CONFIDENCE = 0.95
POWER = 0.8
FEWEST = 5
"""Repetitions below which nothing is decided: all values together, from lowest to highest, hold the median of what
they were drawn from with probability 1 - 2^(1 - G), which is 75 % for three and 94 % for five."""
_REPLICATES = 5**5
_MOST_NEEDED = 1000
_FEW = 30  # degrees of freedom


@dataclass(frozen=True)
class Curve:
    """A measured accuracy against epochs.

    Attributes:
        epochs: [N] epochs finished, ascending.
        values: [D, N] accuracy, percent.
    """

    epochs: Floats
    values: Floats

    @property
    def length(self) -> float:
        """Epochs that the curve spans, from 0."""
        return float(self.epochs[-1])


def final_accuracy(curve: Curve) -> Floats:
    """[D] percent: the mean over the last tenth of the measurements, rounded up.

    One last measurement would carry its whole noise into everything that is held against it; the highest one would
    favour whoever jumps most.
    """
    return np.asarray(curve.values[:, -math.ceil(len(curve.epochs) / 10) :].mean(1))


def first_passing(curve: Curve, goal: Floats) -> Floats:
    """[D] the epoch at which a curve passes `goal` [D] for good; infinite where it does not (censored at its end).

    It passes at the first measured epoch from which on it stays above in the mean: every stretch of measurements that
    begins there has a mean of at least `goal`, however short or long. That is where the cumulated sum of (accuracy -
    goal) has its minimum, and where the non-decreasing curve that fits the measurements best (isotonic regression)
    reaches the goal. There is no window to choose; a single lucky value passes nothing, and one bad value among good
    ones takes nothing back. Asking every single later value to lie above would, for a student that ends level with
    its teacher, tell the last unlucky draw.
    """
    sums = np.cumsum(curve.values - goal[:, None], axis=1)
    # Rounded: a curve that is level with the goal must not fail it by the last bit.
    sums = np.round(np.concatenate([np.zeros((len(sums), 1)), sums], axis=1), 9)
    return np.asarray(np.append(curve.epochs, np.inf)[sums.argmin(1)])


def average_until(curve: Curve, end: float) -> Floats:
    """[D] percent: area under the curve from its first measurement to epoch `end`, divided by that width."""
    inside = curve.epochs < end
    epochs = np.append(curve.epochs[inside], end)
    last = np.array([[np.interp(end, curve.epochs, row)] for row in curve.values])
    values = np.concatenate([curve.values[:, inside], last], axis=1)
    if len(epochs) < 2:
        return values[:, 0]
    area: Floats = np.trapezoid(values, epochs, axis=1) / (epochs[-1] - epochs[0])
    return area


@dataclass(frozen=True)
class Question:
    """What is asked of a number that each repetition gives.

    Attributes:
        name: what the number is.
        unit: of the number, empty for a ratio.
        decimals: of the number as it is told.
        claim: "below": at most `threshold` in the median; "above": more than `threshold` in the mean; None: told only.
        threshold: where the claim begins to hold.
        margin: what is too little to matter: an "above" claim does not hold where the interval ends below
            `threshold + margin`.
    """

    name: str
    unit: str
    decimals: int
    claim: Literal["below", "above"] | None
    threshold: float = 0.0
    margin: float = 0.0

    @property
    def of(self) -> Callable[..., Floats]:
        """How the numbers of repetitions become one: ratios may be infinite (censored), so that these have a median."""
        return np.mean if self.claim == "above" else np.median


@dataclass(frozen=True)
class Estimate:
    """An answer.

    Attributes:
        value: of all repetitions together.
        low: lower end of its interval.
        high: upper end.
        repetitions: G.
        verdict: on the claim; None where there is none.
        needed: repetitions that would decide, where it is not decided and a number can be given.
    """

    value: float
    low: float
    high: float
    repetitions: int
    verdict: Verdict | None
    needed: int | None


def estimate(numbers: list[Floats], question: Question) -> Estimate | None:
    """Answer a question from the number of each repetition, [D] or [1] each; None without any.

    A mean has Student's interval. A median, which may be censored, has a bootstrap over repetitions, each replicate
    with its own draw of the test videos; that is all that a single repetition has. The plain percentiles of few values
    are too narrow; they are taken as far out as would make the interval of a mean as wide as Student's (Hesterberg,
    The American Statistician 69:4, 2015, "expanded percentiles").
    """
    if not numbers:
        return None
    draws = max(map(len, numbers))
    values = np.stack([np.broadcast_to(number, draws) for number in numbers])  # [G, D]
    count = len(values)
    low, high = _of_mean(values) if question.claim == "above" and count > 1 else _of_median(values, question)
    verdict = _judge(low, high, count, question)
    needed = _needed(values, question) if verdict == "not decided" else None
    return Estimate(float(question.of(values[:, 0])), low, high, count, verdict, needed)


def _of_mean(values: Floats) -> tuple[float, float]:
    """The interval of the mean of [G, D] over repetitions, of their spread and of what the test videos do to all alike.

    What videos do to one repetition and not to the others is in the spread already; drawing both anew in each replicate
    would count it thrice (Owen, The Annals of Applied Statistics 1:2, 2007).
    """
    measured = values[:, 0]
    error = math.hypot(measured.std(ddof=1) / math.sqrt(len(values)), _shared_error(values))
    half = _student(len(values) - 1) * error
    return float(measured.mean() - half), float(measured.mean() + half)


def _shared_error(values: Floats) -> float:
    """Standard error, by the test videos, that all of [G, D] repetitions share: no repetition takes it away.

    Of the variance of their mean over draws it is what is left without a G-th of what each has of its own.
    """
    drawn = values[:, 1:]
    if not drawn.size or len(drawn) < 2:
        return 0.0
    mean = drawn.mean(0)
    own = float((drawn - mean).var(axis=1).sum()) / (len(drawn) - 1)
    return math.sqrt(max(0.0, float(mean.var()) - own / len(drawn)))


def _of_median(values: Floats, question: Question) -> tuple[float, float]:
    """The bootstrap interval of [G, D] over repetitions and test videos."""
    count, draws = values.shape
    chosen = _resamples(count)
    if draws > 1:  # few ways to draw repetitions still meet all draws of the error
        chosen = np.tile(chosen, (max(1, _REPLICATES // len(chosen)), 1))
    moved = np.zeros(len(chosen), int) if draws == 1 else 1 + np.arange(len(chosen)) % (draws - 1)
    replicates = question.of(values[chosen, moved[:, None]], axis=1)
    tail = _tail(count)
    low, high = np.quantile(replicates, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)


def _resamples(count: int) -> NDArray[np.int64]:
    """[R, G] repetitions of each replicate: every way to draw them where those are few, else random ones."""
    if count**count <= _REPLICATES:
        return np.stack(np.meshgrid(*[np.arange(count)] * count), axis=-1).reshape(-1, count)
    return np.random.default_rng(0).integers(count, size=(_REPLICATES, count))


def _judge(low: float, high: float, count: int, question: Question) -> Verdict | None:
    if question.claim is None:
        return None
    if count < FEWEST:
        return "not decided"
    if question.claim == "below":
        return "held" if high <= question.threshold else "did not hold" if low > question.threshold else "not decided"
    if low > question.threshold:
        return "held"
    return "did not hold" if high < question.threshold + question.margin else "not decided"


def _needed(values: Floats, question: Question) -> int | None:
    """Repetitions, more than these, that decide with probability POWER if mean and spread (or share) stay as they are.

    For a mean: so many that the distance to what it must be told from is Student's quantile and the quantile of the
    power, in standard errors; what test videos do to all repetitions alike none takes away. For a median:
    so many that a sign test tells the share of repetitions on its side of the threshold from a half.

    Args:
        values: [G, D].
        question: what is asked.
    """
    measured = values[:, 0]
    power, fewest = NormalDist().inv_cdf(POWER), max(FEWEST, len(values) + 1)
    if question.claim == "below":
        share = float(np.mean(measured <= question.threshold))
        if share == 0.5:
            return None
        wide = _student(math.inf) * 0.5 + power * math.sqrt(share * (1 - share))
        count = max(fewest, math.ceil((wide / (share - 0.5)) ** 2))
        return count if count <= _MOST_NEEDED else None
    if len(values) < 2:
        return None
    mean = float(measured.mean()) - question.threshold
    spread, lasting = float(measured.std(ddof=1)), _shared_error(values)  # of repetitions, of test videos
    distance = max(mean, question.margin - mean)
    needed = (
        count
        for count in range(fewest, _MOST_NEEDED + 1)
        if (_student(count - 1) + power) * math.hypot(spread / math.sqrt(count), lasting) <= distance
    )
    return next(needed, None)


def _tail(count: int) -> float:
    if count < 2:  # the error of the test videos alone
        return (1 - CONFIDENCE) / 2
    return NormalDist().cdf(-math.sqrt(count / (count - 1)) * _student(count - 1))


@lru_cache
def _student(freedom: float) -> float:
    """The quantile of Student's distribution that a two-sided interval of CONFIDENCE takes.

    Few degrees of freedom by its closed form, many by an expansion in 1/freedom (Abramowitz and Stegun 26.7.3 to 5).
    """
    if freedom < _FEW:
        low, high = 0.0, math.pi / 2
        for _ in range(60):
            angle = (low + high) / 2
            low, high = (angle, high) if _within(angle, int(freedom)) < CONFIDENCE else (low, angle)
        return math.sqrt(freedom) * math.tan(low)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def _within(angle: float, freedom: int) -> float:
    """The share of Student's distribution between -t and t, where t is sqrt(freedom) * tan(angle)."""
    odd = freedom % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for number in range(1, freedom // 2 + 1):
        total += term
        term *= math.cos(angle) ** 2 * (2 * number - 1 + odd) / (2 * number + odd)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
