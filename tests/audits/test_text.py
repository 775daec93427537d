"""Neutral text: bits a byte, the same for equal weights, and more for what was harmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log

import numpy as np
import pytest
from audits.plants import Plants
from audits.studies_of_audits import spread
from studies import LOSES, finish, study_of, sweep_of
from torch.nn import functional

from forget.analyses.recovery import recoveries
from forget.analyses.text import bits, reading
from forget.audits.text import SPLIT, Text, prose
from forget.results.rows import Row, select

BRIEF = Text(examples=12, tokens=64)


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Plants:
    return Plants(tmp_path_factory.mktemp("plants"))


def test_bits_a_byte_are_nats_over_bytes_and_the_logarithm_of_two() -> None:
    assert bits(np.array([6.931472]), np.array([10.0]))[0] == pytest.approx(1.0, abs=5e-6)


def test_the_text_is_prose_and_long_enough() -> None:
    paragraphs = prose().split("\n")
    assert len(set(paragraphs)) == len(paragraphs) > 400
    assert prose().isascii()
    assert len(prose()) > 100_000


def test_a_chunk_is_scored_from_its_second_token(plants: Plants) -> None:
    at = plants.auditing(BRIEF)
    first, second = list(BRIEF.run(at))[:2]
    # A byte is a token of this model.
    assert first.lengths == (63,)
    chunk = prose()[64:128]
    ids = at.model.tokenizer(chunk, return_tensors="pt")["input_ids"]
    shares = functional.log_softmax(at.model.network(input_ids=ids).logits[0].double(), -1)
    told = shares[:-1].gather(1, ids[0, 1:, None]).sum().detach()
    assert second.logprobs[0] == pytest.approx(float(told), abs=1e-3)
    assert (second.truth, second.split, second.example) == (0, SPLIT, "001")


def more(rows: Sequence[Row]) -> tuple[float, float, float]:
    """Return the bits a byte that forgetting costs in a study of these Rows alone."""
    outcomes, before = finish(sweep_of("world", forget__lr=[1e-4]), {"world": LOSES})
    (id,) = before
    own = [replace(row, trial=id, task="world") for row in rows]
    (cell,) = study_of(outcomes, spread(before, {id: own})).cells
    found = reading(cell)
    assert found
    assert recoveries(cell) == []  # There is no accuracy of one option.
    return found.more.numbers


def test_what_was_not_changed_reads_the_same_and_what_never_learned_reads_as_the_base(
    plants: Plants,
) -> None:
    same, never = (plants.audit(BRIEF, plant) for plant in ("learned", "never"))
    assert more(same) == (0.0, 0.0, 0.0)
    sums = {}
    for arm in ("forgotten", "learned", "base"):
        own = select(never, phase=arm)
        nats = -sum(row.logprobs[0] for row in own)
        sums[arm] = nats / (sum(row.lengths[0] for row in own) * log(2))
    assert sums["forgotten"] == sums["base"]
    assert more(never)[0] == pytest.approx(sums["base"] - sums["learned"], abs=5e-6)


def test_another_text_is_another_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Text().reads
    monkeypatch.setattr("forget.audits.text.prose", lambda: "Another text.")
    assert Text().reads != before
