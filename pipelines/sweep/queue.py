"""Trials of a sweep on their way to Ray Tune, and back where one has to start again."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from ray.tune.search import Searcher

from pipelines.jobs import Job


class Queue(Searcher):
    """Jobs for Tune, which asks for one whenever a slot is free.

    A job that starts again is another one for Tune, since Tune would start it at once, however
    many run.
    """

    def __init__(self, todo: Iterator[Job], most: float = math.inf) -> None:
        """Hand out nothing yet.

        Args:
            todo: the jobs.
            most: jobs to be out at once.
        """
        super().__init__()
        self.jobs: dict[str, Job] = {}
        """Jobs that were handed out, by Tune's id."""
        self.out: set[str] = set()
        """Tune's ids of jobs that have not ended."""
        self.most = most
        self.closed = False
        """No more jobs are handed out: the sweep stops."""
        self._todo = todo
        self._back: list[Job] = []
        self._resume = 0.0

    def suggest(self, trial_id: str) -> Any:
        """Return the config of the next job, None for none now, or Tune's word for the end."""
        if self.closed:
            return Searcher.FINISHED
        if len(self.out) >= self.most or time.monotonic() < self._resume:
            return None
        job = self._back.pop(0) if self._back else next(self._todo, None)
        if job is None:
            # One that is out may come back.
            return None if self.out else Searcher.FINISHED
        self.jobs[trial_id] = job
        self.out.add(trial_id)
        return {"id": job.id, "trial": job.trial.model_dump_json()}

    def put_back(self, job: Job) -> None:
        """Hand out a job again, before those that have not been out."""
        self._back.append(job)

    def wait(self, seconds: float) -> None:
        """Hand out nothing for so long."""
        self._resume = time.monotonic() + seconds

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Note that a job is no longer out; Driver hears of how it ended."""
        self.out.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a sweep goes on from the store, not from Tune's own state."""
