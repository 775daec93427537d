"""Sweeps that something goes wrong with end as if nothing had.

A test is one cell of the matrix; all but one are slow.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .check import Undisturbed, undisturbed
from .faults import FAULTS, play
from .world import MOMENTS, Moment, Skipped, World, world


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("faults")) as found:
        yield found


@pytest.fixture(scope="module")
def expected(servers: World) -> Undisturbed:
    return undisturbed(servers)


def hold(world: World, name: str, harms: list[tuple[str, Moment]], expected: Undisturbed) -> None:
    try:
        result = play(world, name, harms, expected)
    except Skipped as reason:
        pytest.skip(str(reason))
    assert not result.problems, "\n".join((*result.problems, result.said))


def test_the_page_has_a_line_for_each_fault() -> None:
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    assert re.findall(
        r"\| `([a-z-]+)` \|$", page.read_text(encoding="utf-8"), re.MULTILINE
    ) == list(FAULTS)


@pytest.mark.servers
@pytest.mark.timeout(1500)
def test_a_sweep_outlives_a_loss_of_power(servers: World, expected: Undisturbed) -> None:
    """Its processes are killed while it learns, and half of what was written last is gone."""
    hold(servers, "loss-of-power", [("checkpoint-truncated", "learning")], expected)


@pytest.mark.slow
@pytest.mark.servers(make="faults")
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_nothing(
    servers: World, expected: Undisturbed, fault: str, moment: Moment
) -> None:
    hold(servers, f"{fault}-{moment}", [(fault, moment)], expected)
