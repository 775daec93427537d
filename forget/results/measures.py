"""The list of measures, and every number of a trial computed by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from forget.results import metrics
from forget.results.estimates import Estimate, metric_name
from forget.results.rows import PHASES, Row, as_asked
from forget.settings.identity import digest


@dataclass(frozen=True)
class Measure:
    """A number that trials are measured by, and where it is shown."""

    name: str
    """Last part of its metric names."""
    title: str
    """Words of its name in tables and figures."""
    of: Callable[..., Estimate | None]
    """Function of the Rows of one phase, task and split; None where they lack what it needs.

    With `change`, a function of the Rows after learning and of those after forgetting.
    """
    change: bool = False
    """True for a measure of the step from the learned to the forgotten model."""
    flipped: Measure | None = None
    """The measure that stands in its place where the model forgets by flipped labels."""
    column: str = ""
    """Column of Rows (forget.results.files.frame) whose mean it is.

    Analyses resample the items of such a measure, so that they can compare models item by item. Of
    a measure without a column they take the trial's own estimate.
    """
    watched: bool = False
    """True for a measure that is taken at every look on the way as well."""
    headline: bool = False
    """True for a number that a study is known by."""
    compared: tuple[str, ...] = ("forgotten",)
    """Phases in which two studies are compared by it."""
    page: tuple[str, ...] = ("learned", "forgotten")
    """Phases in which the report's table of cells shows it."""
    digits: str = "z.2f"
    """Format of its numbers there."""

    def under(self, flipped: bool) -> Measure:
        """Return the measure that fits forgetting by flipped labels, or by others."""
        return self.flipped if flipped and self.flipped else self


def _variability(rows: Sequence[Row]) -> Estimate | None:
    taken = len(rows) > 1 and all(row.spread is not None for row in rows)
    return metrics.variability(rows) if taken else None


FORGET_RATIO = Measure(
    "forget_ratio",
    "forget ratio",
    metrics.forget_ratio,
    change=True,
    flipped=Measure(
        "flipped_forget_ratio",
        "flipped forget ratio",
        metrics.flipped_forget_ratio,
        change=True,
        headline=True,
    ),
    headline=True,
    page=("forgotten",),
)

MEASURES: tuple[Measure, ...] = (
    Measure(
        "accuracy",
        "accuracy",
        metrics.accuracy,
        column="correct",
        watched=True,
        headline=True,
        compared=("learned", "forgotten"),
        page=PHASES,
    ),
    Measure(
        "forget_gap",
        "forget gap",
        lambda learned, forgotten: metrics.forget_gap(forgotten),
        change=True,
        page=(),
    ),
    FORGET_RATIO,
    Measure(
        "agreement",
        "agreement with the draw",
        metrics.agreement,
        column="agrees",
        page=("forgotten",),
    ),
    Measure(
        "accuracy_draw_right",
        "accuracy where the draw was right",
        partial(metrics.accuracy_by_draw, right=True),
        page=("forgotten",),
    ),
    Measure(
        "accuracy_draw_wrong",
        "accuracy where the draw was wrong",
        partial(metrics.accuracy_by_draw, right=False),
        page=("forgotten",),
    ),
    Measure("discrimination", "discrimination (AUC)", metrics.discrimination),
    Measure("most_given", "share of the answer given most", metrics.most_given, page=()),
    Measure(
        "forget_ratio_share", "forget ratio by share", metrics.share_ratio, change=True, page=()
    ),
    Measure(
        "forget_ratio_auc",
        "forget ratio by AUC",
        metrics.discrimination_ratio,
        change=True,
        page=(),
    ),
    Measure("confidence", "confidence", metrics.confidence, column="confidence", watched=True),
    Measure("loss", "loss", metrics.loss, column="loss", compared=(), page=()),
    Measure("option_mass", "option mass", metrics.option_mass, column="mass", digits=".2g"),
    Measure("entropy", "entropy", metrics.entropy, column="entropy"),
    Measure(
        "calibration_error", "calibration error", metrics.calibration_error, compared=(), page=()
    ),
    Measure("variability", "variability", _variability, column="spread", compared=(), page=()),
)
"""Every measure. MLflow, the report's tables and page, and comparisons show what stands here."""


def ratio_name(labels: str) -> str:
    """Return the name of the forget ratio that fits the labels a model forgets with."""
    return FORGET_RATIO.under(labels == "flipped").name


def every_measure() -> Iterator[Measure]:
    """Yield each of MEASURES, followed by the one that stands in its place for flipped labels."""
    for measure in MEASURES:
        yield measure
        if measure.flipped:
            yield measure.flipped


def named(name: str) -> Measure:
    """Return the measure of that name.

    Raises:
        KeyError: there is none.
    """
    for measure in every_measure():
        if measure.name == name:
            return measure
    raise KeyError(name)


def measures(rows: Sequence[Row], flipped: bool = False) -> dict[str, Estimate]:
    """Compute every number of a trial, for each phase, task and split there are Rows of.

    Args:
        rows: of any phases; looks on the way and other templates are left out.
        flipped: the trial forgets by flipped labels, which have a forget ratio of their own.

    Returns:
        Estimates by metric name.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in as_asked(rows):
        if row.step is None:
            groups.setdefault((row.phase, row.task, row.split), []).append(row)
    fitting = [measure.under(flipped) for measure in MEASURES]
    found: dict[str, Estimate] = {}
    for (phase, task, split), group in groups.items():
        learned = groups.get(("learned", task, split)) if phase == "forgotten" else None
        taken = [(one.name, one.of(group)) for one in fitting if not one.change]
        if learned:
            taken += [(one.name, one.of(learned, group)) for one in fitting if one.change]
        for name, estimate in taken:
            if estimate is not None:
                found[metric_name(phase, task, split, name)] = estimate
    return found


def course(rows: Sequence[Row]) -> list[tuple[str, int, Estimate]]:
    """Compute the watched measures at every look on the way.

    Returns:
        (metric name, step, estimate), the name e.g. forget/arc_easy/test/accuracy.
    """
    groups: dict[tuple[str, str, str, int], list[Row]] = {}
    for row in rows:
        if row.step is not None:
            groups.setdefault((row.phase, row.task, row.split, row.step), []).append(row)
    watched = [measure for measure in MEASURES if measure.watched]
    found = []
    for (phase, task, split, step), group in groups.items():
        for measure in watched:
            estimate = measure.of(group)
            if estimate is not None:
                found.append((metric_name(phase, task, split, measure.name), step, estimate))
    return found


@lru_cache(maxsize=1)
def code() -> str:
    """Return a digest of the source text that numbers are computed by.

    Numbers that were kept together with another digest are to be computed anew.
    """
    names = ("estimates.py", "measures.py", "metrics.py", "rows.py")
    sources = [Path(__file__).with_name(name) for name in names]
    return digest([path.read_text(encoding="utf-8") for path in sources])
