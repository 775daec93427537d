"""`python -m benchmarks.coverage`: the tables of docs/method.md, in about half an hour."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import Progress

from benchmarks.coverage import claims, intervals, recovery


def main(
    replicates: Annotated[int, typer.Option(min=2, help="Simulated studies of a line.")] = 100,
) -> None:
    """Print how often intervals hold the truth, and how often claims are falsely decided."""
    with Progress(transient=True) as progress:
        of_claims = sum(claims.studies(case, replicates) for case in claims.CASES)
        task = progress.add_task("studies", total=10 * replicates + of_claims)

        def tick() -> None:
            progress.advance(task)

        covered = intervals.table(replicates, tick)
        decided = claims.table(replicates, tick)
        audited = recovery.table(replicates, tick)
    typer.echo("\n".join([*covered, "", *decided, "", *audited]))


if __name__ == "__main__":
    typer.run(main)
