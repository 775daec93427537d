"""Claims that a spec declares."""

import pytest

from forget.analyses.claims import RULES
from forget.settings.claims import CLAIMS
from forget.settings.sweep import Sweep

BASE = {"task": "world", "model": "tiny"}


def test_declared_claims_change_no_trial() -> None:
    plain, declared = Sweep(name="s", base=BASE), Sweep(name="s", base=BASE, primary=["some"])
    assert declared.primary == ("some",)
    assert Sweep(name="s", base=BASE, primary="probes").primary == ("probes",)
    assert plain.trials() == declared.trials()


@pytest.mark.parametrize(
    ("primary", "said"),
    [(["sume"], 'sume.* is no claim; did you mean "some"'), (["some", "some"], "claim twice")],
)
def test_what_is_no_claim_is_refused(primary: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sweep(name="s", base=BASE, primary=primary)


def test_every_claim_has_a_rule() -> None:
    assert list(RULES) == list(CLAIMS)
