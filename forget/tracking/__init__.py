"""MLflow: an experiment per study, a parent run per sweep, a child per trial, a registered model per (model, task).

Everything a trial observes lies in its journal first; what reaches MLflow while it runs is a
preview, and `publish` and `sync` send whatever is missing, exactly once. The only rooms that import
mlflow.
"""

import logging
import os

# MLflow reads these on import. Two retries, not seven: the journal outlasts a server that is away,
# so nobody need wait for it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault(
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"
)  # the URL may hold a password
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

from forget.tracking.connection import Unreachable, tracking_uri, ui_command
from forget.tracking.publishing import publish, sync
from forget.tracking.reading import read_experiment
from forget.tracking.registry import load_forgotten, registered_name
from forget.tracking.stream import trial_sink
from forget.tracking.study import Study, close_study, open_study

__all__ = [
    "Study",
    "Unreachable",
    "close_study",
    "load_forgotten",
    "open_study",
    "publish",
    "read_experiment",
    "registered_name",
    "sync",
    "tracking_uri",
    "trial_sink",
    "ui_command",
]

# Again, for whoever imported mlflow first.
logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])
logging.getLogger("alembic").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])
