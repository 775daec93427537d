"""The page on audits lists those that there are."""

from __future__ import annotations

from pathlib import Path

from forget.audits.catalogue import audits, chosen
from forget.settings.trial import Trial

PAGE = Path(__file__).parents[2] / "docs" / "audits.md"


def test_the_page_lists_every_audit_as_it_describes_itself() -> None:
    lines = [f"| `{name}` | {kind.asks} | {kind.cost} |" for name, kind in audits().items()]
    table = "\n".join(["| audit | asks | cost of an arm |", "|---|---|---|", *lines])
    assert table in PAGE.read_text(encoding="utf-8"), f"docs/audits.md should hold:\n{table}"


def test_every_audit_says_what_it_costs() -> None:
    trial = Trial(task="world", model="tiny")
    for audit in chosen([{"name": name} for name in audits()]):
        assert audit.passes(trial) >= 1
        assert audit.trained(trial) >= 0
        assert audit.label == audit.name
