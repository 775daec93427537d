"""Audits of hidden states, on planted arms: their numbers at both ends are exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from audits.plants import Plants, copied
from studies import LOSES, finish, study_of, sweep_of

from forget.analyses.codes import codes
from forget.analyses.drift import drifts, erasure
from forget.analyses.patching import patching, uds
from forget.analyses.recovery import recoveries
from forget.analyses.study import Cell
from forget.audits.arms import Arm
from forget.audits.audit import Audit
from forget.audits.drift import Drift
from forget.audits.probes import Probes
from forget.audits.run import audit_arm
from forget.audits.uds import Uds, answering, patched
from forget.models import batches
from forget.models.language_model import LanguageModel
from forget.report import recovery
from forget.results.rows import Row, judge, select


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Plants:
    return Plants(tmp_path_factory.mktemp("plants"))


def cell_of(found: Sequence[Row]) -> Cell:
    """Return the cell of a study, in the place of whose audits are those of planted arms."""
    outcomes, rows = finish(sweep_of("colours", forget__lr=[1e-4]), {"colours": LOSES})
    (id,) = rows
    audited = [replace(row, trial=id) for row in found]
    (cell,) = study_of(outcomes, {id: [*rows[id], *audited]}).cells
    return cell


def test_an_erasure_lies_between_the_learned_arm_and_the_one_never_taught() -> None:
    for forgotten, expected in ((0.2, 0.0), (0.6, 0.5), (1.0, 1.0), (0.1, 0.0)):
        found = erasure(np.array([forgotten]), np.array([0.2]))
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.isnan(erasure(np.array([1.0]), np.array([0.995]))).all()


def test_drift_is_none_where_nothing_moved_and_whole_where_nothing_was_taught(
    plants: Plants,
) -> None:
    for plant, expected in (("learned", 0.0), ("masked", 0.0), ("never", 1.0)):
        found = drifts(cell_of(plants.audit(Drift(), plant)))
        assert [(one.task, one.layer) for one in found] == [
            ("own", 1), ("own", 2), ("other", 1), ("other", 2)
        ]  # fmt: skip
        for one in found:
            assert one.alike["learned"].value == pytest.approx(1, abs=1e-9)
            assert one.distance["learned"].value == 0
            assert one.cosine["learned"].value == pytest.approx(1, abs=1e-6)
        own = [one for one in found if one.task == "own"]
        assert [one.erasure.value for one in own] == [expected] * 2
        for one in own:
            assert one.alike["never"].numbers[2] < 1
            same = "never" if plant == "never" else "learned"
            assert one.alike["forgotten"] == one.alike[same]
            assert one.distance["forgotten"] == one.distance[same]


def test_the_page_shows_drift_by_layer(plants: Plants, tmp_path: Path) -> None:
    cell = cell_of(plants.audit(Drift(), "never"))
    section = recovery.section(cell.study, tmp_path)
    assert section
    (table,) = [table for table in section.tables if table.name == "drift"]
    assert [row["layer"] for row in table.rows] == [1, 2, 1, 2]
    assert "Drift compares" in section.text
    assert [picture.title for picture in section.pictures] == ["drift"]
    assert recoveries(cell) == []  # Drift is no accuracy, and no claim rests on it.
    assert (tmp_path / "drift.png").stat().st_size > 1000


def test_a_number_of_an_item_is_kept_with_its_row(plants: Plants) -> None:
    rows = plants.audit(Drift(), "never")
    assert all(row.value is None for row in select(rows, dose="plain"))
    noted = select(rows, dose="distance/layer=2", phase="never", task="colours")
    assert len(noted) == Drift().examples < len(plants.material.test["colours"])
    assert min(row.value or 0 for row in noted) > 0


def test_uds_of_the_published_vectors() -> None:
    held, gone = np.array([0.02, 0.5, 1, 0.8]), np.array([0.3, 0.25, 1.2, -0.1])
    assert uds(held, gone) == pytest.approx(0.543478, abs=5e-6)
    each = [float(uds(held[[layer]], gone[[layer]])) for layer in range(4)]
    np.testing.assert_allclose(each, [np.nan, 0.5, 1, 0])
    assert np.isnan(uds(np.full(3, 0.05), np.ones(3)))


def test_uds_is_exact_at_both_ends_and_sees_no_change_of_a_head(plants: Plants) -> None:
    for plant, expected in (("learned", 0.0), ("masked", 0.0), ("never", 1.0)):
        found = patching(cell_of(plants.audit(Uds(), plant)))
        assert found
        assert found.score.numbers == (expected,) * 3
        assert set(found.lost) == {1, 2}
        assert found.lost[2]["never"].numbers[1] > 0.05


def test_uds_is_missing_where_the_learned_model_is_as_the_one_never_taught(plants: Plants) -> None:
    rows = plants.audit(Uds(), "never")
    never = select(rows, phase="never")
    same = [replace(row, phase="learned") for row in never]
    found = patching(cell_of([*(row for row in rows if row.phase != "learned"), *same]))
    assert found
    assert found.score.value is None


def test_a_patch_is_where_answers_are_read_and_nowhere_else(plants: Plants) -> None:
    at = plants.auditing(Uds())
    base, learned = plants.base, at.model
    (one,) = batches.encode(at.test[:1], learned.tokenizer, 1000)
    batch = batches.pack([[one]], 0)
    places = answering(batch)[0]
    before = len(one.prompt) - 1
    assert places.tolist() == [False] * before + [True] * (one.length - before)

    seen: dict[str, torch.Tensor] = {}
    for name, model in (("learned", learned), ("base", base)):
        hook = model.answers.blocks[0].register_forward_hook(
            lambda module, args, out, name=name: seen.__setitem__(name, out.detach())
        )
        model.answers(batch)
        hook.remove()
    plain = learned.answers(batch)
    with patched(learned, base, 0):
        got = []
        hook = learned.answers.blocks[1].register_forward_pre_hook(
            lambda module, args: got.append(args[0].detach())
        )
        changed = learned.answers(batch)
        hook.remove()
    (states,) = got
    np.testing.assert_array_equal(states[0, places], seen["base"][0, places])
    np.testing.assert_array_equal(states[0, ~places], seen["learned"][0, ~places])
    assert not np.allclose(changed.detach(), plain.detach())
    np.testing.assert_array_equal(learned.answers(batch).detach(), plain.detach())


def test_after_the_last_block_only_the_head_is_the_learned_models(plants: Plants) -> None:
    """The patch comes before the final norm: there, the source with the learned norm and head."""
    at = plants.auditing(Uds())
    mixed = copied(plants.base)
    mixed.network.base_model.norm = at.model.network.base_model.norm
    mixed.network.set_output_embeddings(at.model.network.get_output_embeddings())
    with patched(at.model, plants.base, 1):
        found = at.read(at.model, at.test, None).logprobs
    expected = at.read(mixed, at.test, None).logprobs
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_page_shows_patching_by_layer(plants: Plants, tmp_path: Path) -> None:
    cell = cell_of(plants.audit(Uds(), "never"))
    section = recovery.section(cell.study, tmp_path)
    assert section
    tables = {table.name: table.rows for table in section.tables}
    assert str(tables["patching"][0]["UDS"]) == "1.000 [1.000, 1.000]"
    assert [row["layer"] for row in tables["patched_layers"]] == [1, 2]
    assert "UDS is the mean" in section.text
    assert [picture.title for picture in section.pictures] == ["patching"]


def found_of(plants: Plants, audit: Audit, load: Callable[[], LanguageModel]) -> list[Row]:
    """Return what an audit finds where the forgotten arm is a model made here."""
    arms = {**plants.arms("learned"), "forgotten": Arm(load.__name__, load)}
    rows: list[Row] = []
    for name, arm in arms.items():
        given = (plants.trial, plants.material, plants.store)
        rows += audit_arm(audit, arms, name, arm.load, *given)
    return rows


def test_probes_see_behind_a_mask_and_nothing_of_what_was_never_taught(plants: Plants) -> None:
    for plant, expected in (("masked", 1.0), ("scrubbed", 0.0)):
        found = recoveries(cell_of(plants.audit(Probes(), plant)))
        known = {one.dose.name: one.number.value for one in found if one.number.value is not None}
        plain = known.pop("plain")
        assert {"frozen/layer=2", "frozen back/layer=2", "best frozen"} <= known.keys()
        assert set(known.values()) == {expected}
        assert plain == pytest.approx(0, abs=0.1)
        assert codes(cell_of(plants.audit(Probes(), plant)))


def test_a_frozen_probe_tells_other_directions_from_the_same(plants: Plants) -> None:
    """States that were turned hold what they held, and no probe of before reads it."""
    generator = torch.Generator().manual_seed(5)
    rotation, _ = torch.linalg.qr(torch.randn(64, 64, generator=generator))

    def turned() -> LanguageModel:
        model = copied(plants.learned)
        model.answers.blocks[1].register_forward_hook(lambda module, args, out: out @ rotation)
        return model

    rows = found_of(plants, Probes(kinds=("held_out", "frozen"), layers=1), turned)

    def right(arm: str, dose: str) -> float:
        asked = select(rows, phase=arm, dose=dose, split="test")
        return float(np.mean(judge(asked).correct))

    assert right("learned", "held_out/layer=2") > 0.9
    assert right("forgotten", "held_out/layer=2") > 0.9
    assert abs(right("learned", "held_out random/layer=2") - 0.5) < 0.25
    assert right("learned", "frozen/layer=2") == right("learned", "held_out/layer=2")
    for dose in ("frozen/layer=2", "frozen back/layer=2"):
        assert right("forgotten", dose) < 0.75


def test_each_arm_is_read_at_the_layer_that_validation_chooses(plants: Plants) -> None:
    rows = plants.audit(Probes(kinds="held_out"), "never")
    chosen = select(rows, split="validation")
    own = {"best held_out/block=1", "best held_out/block=2"}
    control = {"best held_out random/block=1", "best held_out random/block=2"}
    assert {row.dose for row in chosen} == own | control
    asked = {row.example for row in chosen}
    assert not asked & {row.example for row in select(rows, split="test")}
    best = select(rows, split="test", dose="best held_out/block=2")
    by_layer = select(rows, split="test", dose="held_out/layer=2")
    assert [row.logprobs for row in best] == [row.logprobs for row in by_layer]


def test_the_page_shows_codes_by_layer(plants: Plants, tmp_path: Path) -> None:
    cell = cell_of(plants.audit(Probes(kinds="mdl"), "never"))
    section = recovery.section(cell.study, tmp_path)
    assert section
    (table,) = [table for table in section.tables if table.name == "codes"]
    assert [row["layer"] for row in table.rows] == [1, 2]
    for row in table.rows:
        assert row["compression, forgotten"] == row["compression, never taught"]
    # A question has two labels, and the learned model's states tell them for less than two bits.
    (last,) = [one for one in codes(cell) if one.layer == 2]
    assert last.compression["learned"].numbers[1] > 1
    assert last.bits["learned"].numbers[0] == pytest.approx(
        2 / last.compression["learned"].numbers[0]
    )
    assert "Codes are the bits" in section.text
    assert "codes" in [picture.title for picture in section.pictures]
    assert [one.dose.name for one in recoveries(cell)] == ["plain"]
