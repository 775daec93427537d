"""A sweep's trials, run by Ray Tune on this machine or on a cluster; the only folder that knows Ray."""

from pipelines.sweep.driver import Failure
from pipelines.sweep.nodes import cluster
from pipelines.sweep.verbs import SweepResult, run, send, write_report

__all__ = ["Failure", "SweepResult", "cluster", "run", "send", "write_report"]
