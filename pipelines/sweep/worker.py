"""The process that runs a sweep's trials, one after another."""

from __future__ import annotations

import errno
import gc
import os
import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from forget import tracking
from forget.errors import BadInput
from forget.events import Event, Observe, Step
from forget.models.devices import check_gpu, without_launchers
from forget.models.kernels import keep_memory, release_memory
from forget.redaction import without_secrets
from forget.results.outcome import Outcome
from forget.settings.sweep import Resources
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.trial import run_trial
from pipelines import GARBAGE
from pipelines.processes import run_processes
from pipelines.sweep.board import POST_SECONDS, Board, Order

FULL = os.strerror(errno.ENOSPC)
"""The system's words for a full disk."""


class Left(KeyboardInterrupt):
    """Raised in a trial whose machine goes away: it keeps its state, and goes on elsewhere."""


LEFT = "its machine goes away"
"""The words by which the driver knows that a trial did not fail."""


class Slot(tune.Trainable):
    """A warm process that runs trials one after another, so that torch is imported once."""

    def setup(  # type: ignore[override]  # tune.with_parameters gives what follows the config
        self,
        config: dict[str, Any],
        study: tracking.Study,
        where: str,
        scratch: str,
        resources: Resources,
        board: Board,
    ) -> None:
        """Prepare the process for its trials; Tune calls this in place of a constructor.

        Args:
            config: of the first trial; `step` reads it from `self.config`.
            study: where the trials' runs go.
            where: folder or URL of the store.
            scratch: Tune's folder in the store, which a node that shares the store sees.
            resources: what a trial takes.
            board: where the driver leaves its orders.
        """
        # What a launcher left on this node is of another process.
        for name in os.environ.keys() - without_launchers(os.environ).keys():
            del os.environ[name]
        torch.set_num_threads(max(1, int(resources.cpus)))
        keep_memory()
        gc.set_threshold(GARBAGE)
        # Training collects garbage twice a trial. What was imported is none, and to look through it
        # takes a third of a second.
        gc.freeze()
        self.study = study
        self.store = Store(where)
        self.scratch = scratch
        self.resources = resources
        self.board = board
        board.join(os.getpid())
        self.node = ray.get_runtime_context().get_node_id()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Agree to run another trial in this process (reuse_actors)."""
        return True

    def step(self) -> dict[str, Any]:
        """Run a whole trial.

        An error that would only happen again ends it; any other is raised, for Tune to try again.
        """
        id, trial = self.config["id"], Trial.model_validate_json(self.config["trial"])
        result: dict[str, Any] = {"done": True, "reason": None, "stopped": False}
        try:
            self._go_on(self.board.order(id, self.node))
            if not self.store.remote and not Path(self.scratch).exists():
                raise BadInput(
                    f"{self.store.root} is not on this node: "
                    "every node must see the store, set FORGET_STORE"
                )
            with tracking.trial_sink(self.study, trial, id, self.store) as sink:
                self._run(trial, self._observer(id, sink))
        except (BadInput, FloatingPointError) as error:
            result["reason"] = without_secrets(str(error))
        except Left as error:
            raise RuntimeError(LEFT) from error
        except KeyboardInterrupt:
            result["stopped"] = True
        except Exception as error:
            # safetensors has an error of its own for it, which only its text tells.
            if FULL not in str(error):
                raise
            result["reason"] = (
                f"{FULL}: make room for {self.store.root}, and the same command goes on"
            )
        # The next trial may be small, or there may be none while others still run.
        release_memory()
        return result

    def _run(self, trial: Trial, observe: Observe) -> None:
        if gpus := float(self.resources.gpus):
            check_gpu()
            if gpus < 1:
                # Trials that share a GPU leave each other their part.
                torch.cuda.set_per_process_memory_fraction(gpus)
        if self.resources.workers > 1:
            run_processes(trial, self.resources, observe, self.store)
        else:
            run_trial(trial, observe, self.store, self.resources.checkpoint_minutes)

    def _observer(self, id: str, sink: Observe) -> Observe:
        """Make a function that passes events to the sink and, now and then, posts them.

        It also reads then whether the trial is to stop.
        """
        posted = 0.0

        def observe(event: Event) -> None:
            nonlocal posted
            sink(event)
            now = time.monotonic()
            if isinstance(event, Step) and now - posted < POST_SECONDS:
                return
            posted = now
            if not isinstance(event, Outcome):
                self.board.post(id, event)
                self._go_on(self.board.order(id, self.node))

        return observe

    def _go_on(self, order: Order) -> None:
        """Obey an order: return, or raise what ends the trial."""
        if order == "leave":
            raise Left
        if order == "stop":
            raise KeyboardInterrupt
