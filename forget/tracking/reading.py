"""Reading of an experiment's finished trials from the server."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from forget.analyses import Study
from forget.errors import BadInput, nearest
from forget.events import Observe, StageStarted, Step, ignore
from forget.results.files import LATER, read_frame, read_rows
from forget.results.outcome import Outcome
from forget.results.rows import Row
from forget.storage.finished import MEASURES, measured
from forget.storage.folders import whole_folder
from forget.storage.remote import within
from forget.storage.store import Store
from forget.tracking.connection import connect, reaching, tracking_uri
from forget.tracking.study import refuse_deleted


def load_study(experiment: str, observe: Observe = ignore) -> Study:
    """Load the finished trials of an experiment from the tracking server, with their Rows.

    What was fetched is kept in the store.

    Args:
        experiment: its name in MLflow, which is that of the spec.
        observe: receives a `Step` for each trial.

    Raises:
        BadInput: no such experiment, or none of its trials has finished.
    """
    found = read_experiment(experiment, Store().root / "fetched", observe)
    frames = {outcome.id: read_frame(rows) for outcome, rows in found}
    return Study([outcome for outcome, _ in found], frames)


def read_experiment(
    name: str, copies: Path, observe: Observe = ignore
) -> list[tuple[Outcome, Path]]:
    """Return the finished trials of an experiment with the files of their Rows.

    They come in the order in which they were started.

    A sweep that ran again under a changed spec has another parent run with some of the same trials.
    Each is taken once: of runs with equal settings, which other data or another protocol tell
    apart, the one that started last.

    Args:
        copies: a folder that keeps what was fetched, by run: one that has finished changes no more.
        observe: is told of the stage "fetch", a step a run.

    Raises:
        BadInput: no such experiment, or it was deleted, or none of its trials has finished, or one
            cannot be read.
        Unreachable: the server is away.
    """
    uri = tracking_uri()
    client = connect(uri)
    with reaching(uri):
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            known = [one.name for one in client.search_experiments() if one.name != "Default"]
            hint = nearest(name, known) if known else "; there is none yet"
            raise BadInput(f'no experiment is named "{name}"{hint}')
        refuse_deleted(experiment, "")
        runs = {
            run.data.tags["forget.trial"]: run
            for run in _finished(client, experiment.experiment_id)
        }
        if not runs:
            raise BadInput(
                f'experiment "{name}" has no finished trial; '
                "what has finished elsewhere comes by `forget sync`"
            )
        observe(StageStarted(stage="fetch", steps=len(runs)))
        found = {}
        for number, run in enumerate(runs.values(), 1):
            outcome, rows = _fetched(client, run, name, within(copies, run.info.run_id))
            found[outcome.trial.id("")] = outcome, rows
            observe(Step(stage="fetch", step=number, steps=len(runs)))
    return list(found.values())


def _finished(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    """Yield the runs of finished trials, under whichever parent, by when they started."""
    query = "attributes.status = 'FINISHED' and tags.`forget.trial` != ''"
    page = None
    while page is None or page.token:
        token = page.token if page else None
        page = client.search_runs(
            [experiment_id], query, order_by=["attributes.start_time ASC"], page_token=token
        )
        yield from page


def _fetched(client: MlflowClient, run: Run, experiment: str, folder: Path) -> tuple[Outcome, Path]:
    """Return the outcome of a finished trial's run and the file of its Rows.

    Args:
        folder: holds them from then on.
    """
    import pyarrow.parquet as pq

    place = f'run {run.info.run_id} of experiment "{experiment}"'
    if not folder.exists():
        names = ("outcome.json", "rows.parquet")
        there = {file.path for file in client.list_artifacts(run.info.run_id)}
        for name in names:
            if name not in there:
                raise BadInput(
                    f"{place} has finished but has no {name}; "
                    "its files were removed: delete the run as well"
                )
        with whole_folder(folder) as draft:
            for name in (*names, *({MEASURES} & there)):
                client.download_artifacts(run.info.run_id, name, str(draft))
    rows = folder / "rows.parquet"
    columns = {one.name for one in dataclasses.fields(Row)} - {*LATER}
    try:
        outcome = Outcome.model_validate_json((folder / "outcome.json").read_text(encoding="utf-8"))
        readable = columns <= set(pq.read_schema(rows).names)
        if readable:
            outcome = measured(outcome, folder, lambda: read_rows(rows))
    except ValueError:  # pydantic's, pyarrow's and that of letters that are none
        readable = False
    if not readable:
        raise BadInput(
            f"{place} was written by another version of forget and cannot be read; "
            "delete it, or run that version"
        )
    return outcome, rows
