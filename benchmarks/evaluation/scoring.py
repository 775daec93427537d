"""Score the options of benchmark items: `forget.evaluation.scoring` against lm-evaluation-harness.

Both sides get the same network and the same texts: long contexts (BoolQ, RTE, QNLI), four options
(ARC-easy, HellaSwag) and short contexts (PIQA), or tasks that ship with the package where there is
no folder of data. The harness runs at the fastest of the batch sizes 1, 4, 8, 16 and 32, tried
before anything is timed. In fp32 every log-probability is equal within 1e-3 nats, and so is the
accuracy. Rows in bf16 are there where that is our default, on a machine that computes faster in it.
The harness still computes in fp32, its default for this model; there our accuracy is compared with
our own in fp32, on more items than are timed. Rows with bf16 on both sides show how much of a ratio
is precision; they have no target. In the row "one option a row" our side shares
no prompt either: it is how a model is scored for which that would not be exact.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks import data
from benchmarks.compare import Comparison
from benchmarks.stack import Harness
from forget.evaluation.scoring import score
from forget.models import checking
from forget.models.catalogue import in_bf16
from forget.models.language_model import LanguageModel
from forget.models.ways import ROWS
from forget.tasks.task import Example

Scores = Sequence[Sequence[float]]
"""Log-probabilities, in nats, by example and option."""

NEAR = 1e-3
"""Largest difference of two log-probabilities in fp32, in nats."""


@dataclass(frozen=True)
class Timed:
    """A task, the number of its examples, and the targets of its rows."""

    task: str
    kind: str
    n: int
    """Number of examples that are timed."""
    fp32: float
    """Target of the row in fp32."""
    bf16: float
    """Target of the row in bf16."""
    batch: int | None = None
    """Batch size of the harness; None: the fastest of those tried."""
    apart: bool = False
    """True where it is timed with one option a row, too; its options have several tokens, or the
    harness would compute them together.
    """


FULL = (
    Timed("boolq", "long contexts", 32, 2, 5),
    Timed("rte", "long contexts", 40, 2, 5),
    Timed("qnli", "long contexts", 40, 2, 5),
    Timed("arc_easy", "four options", 32, 2, 5, apart=True),
    Timed("hellaswag", "four options", 16, 2, 5),
    Timed("piqa", "short contexts", 40, 1.5, 3),
)
QUICK = (
    Timed("boolq", "long contexts", 12, 2, 5, batch=1),
    Timed("arc_easy", "four options", 8, 2, 5, batch=8, apart=True),
)
"""Rows of a quick run, at the batch sizes that were the fastest of those tried with `FULL`."""
SHIPPED = (
    Timed("reading", "long contexts", 24, 2, 5),
    Timed("world", "short contexts", 32, 1.5, 3, apart=True),
)
"""Rows where there is no folder of data."""


def comparisons(quick: bool) -> list[Comparison[Scores]]:
    chosen = (QUICK if quick else FULL) if data.REAL else SHIPPED
    first_of_kind = {timed.kind: timed.task for timed in reversed(chosen)}
    auto = in_bf16("auto")
    rows = []
    for timed in chosen:
        harness = _Theirs(data.examples(timed.task, timed.n), batch=timed.batch)
        rows.append(_fp32(timed, harness))
        if auto:
            rows.append(_bf16(timed, harness, checked=100 if quick else 200))
        if timed.apart:
            rows.append(_apart_rows(timed, harness))
        if auto and timed.task == first_of_kind[timed.kind] and not quick:
            rows.append(_both_bf16(timed))
    return rows


def _work(timed: Timed, precision: str) -> str:
    return f"score {timed.task} ({timed.kind}), {precision}"


def _ours(some: Sequence[Example], bf16: bool) -> Scores:
    return score(data.model(), some, bf16=bf16).logprobs


class _Theirs:
    """The harness's side, which loads its network when the row runs."""

    def __init__(
        self, some: Sequence[Example], dtype: torch.dtype = torch.float32, batch: int | None = None
    ) -> None:
        self.some, self.dtype, self.batch = some, dtype, batch
        self.harness: Harness | None = None

    def __call__(self) -> Scores:
        if self.harness is None:
            self.harness = Harness(
                data.other_network(self.dtype), data.model().tokenizer, self.some, self.batch
            )
        return self.harness.score()

    def at(self) -> str:
        assert self.harness
        return f"batch size {self.harness.batch}"


@functools.cache
def _one_a_row() -> LanguageModel:
    """Return the model, computed as one for which nothing faster than `ROWS` is exact."""
    whole = data.model()
    model = LanguageModel(whole.name, whole.network, whole.tokenizer)
    longest = checking.size(whole.network.config.max_position_embeddings, 2**31)
    lengths = [checking.TRIED]
    while lengths[-1] < longest:
        lengths.append(2 * lengths[-1])
    model.answers.choice = checking.Choice(dict.fromkeys(lengths, ROWS))
    return model


def _apart_rows(timed: Timed, theirs: _Theirs) -> Comparison[Scores]:
    same = _fp32(timed, theirs)
    return replace(
        same,
        work=_work(timed, "one option a row, fp32"),
        ours=lambda: score(_one_a_row(), theirs.some).logprobs,
        target=1,
    )


def _fp32(timed: Timed, theirs: _Theirs) -> Comparison[Scores]:
    some = theirs.some

    def check(ours: Scores, other: Scores) -> str:
        apart = _apart(ours, other)
        assert apart <= NEAR, f"log-probabilities differ by {apart:.1e} nats"
        mine, its = data.accuracy(ours, some), data.accuracy(other, some)
        assert mine == its, f"accuracy {mine:.3f}, theirs {its:.3f}"
        options = sum(len(e.options) for e in some)
        return (
            f"{options} log-probabilities within {apart:.0e} nats, "
            f"accuracy {mine:.3f} on both sides; {theirs.at()}"
        )

    return Comparison(
        _work(timed, "fp32"),
        "lm-eval, its best batch size",
        lambda: _ours(some, False),
        theirs,
        check,
        timed.fp32,
    )


def _bf16(timed: Timed, theirs: _Theirs, checked: int) -> Comparison[Scores]:
    some, more = theirs.some, data.examples(timed.task, checked)

    def check(ours: Scores, other: Scores) -> str:
        full = data.accuracy(_ours(more, False), more)
        half = data.accuracy(_ours(more, True), more)
        assert abs(full - half) <= 0.01 + 1e-9, (
            f"accuracy over {len(more)} examples {half:.3f} in bf16, {full:.3f} in fp32"
        )
        apart = _apart(ours, other)
        return (
            f"accuracy {half:.3f}, in fp32 {full:.3f}, over {len(more)} examples; "
            f"{apart:.2f} nats at most; {theirs.at()}"
        )

    return Comparison(
        _work(timed, "bf16"),
        "lm-eval in fp32, its best batch size",
        lambda: _ours(some, True),
        theirs,
        check,
        timed.bf16,
    )


def _both_bf16(timed: Timed) -> Comparison[Scores]:
    some = data.examples(timed.task, timed.n)
    theirs = _Theirs(some, torch.bfloat16)

    def check(ours: Scores, other: Scores) -> str:
        return f"{_apart(ours, other):.2f} nats apart at most: both round, not alike; {theirs.at()}"

    work = _work(timed, "bf16 on both sides")
    return Comparison(
        work,
        "lm-eval, the network in bf16, its best batch size",
        lambda: _ours(some, True),
        theirs,
        check,
        None,
    )


def _apart(ours: Scores, other: Scores) -> float:
    """Return the largest difference of two log-probabilities, in nats."""
    apart = 0.0
    for mine, its in zip(ours, other, strict=True):
        apart = max(apart, *(abs(a - b) for a, b in zip(mine, its, strict=True)))
    return apart
