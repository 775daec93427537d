"""MLflow: an experiment a study, a parent run a sweep, a child a trial, a registered model a task.

A registered model is of one base model and one task. Everything a trial observes lies in its
journal first; what reaches MLflow while it runs is a preview, and `publish` and `sync` send
whatever is missing, exactly once. These are the only rooms that import mlflow.
"""

from forget.tracking.connection import Unreachable, tracking_uri, ui_command
from forget.tracking.publishing import publish, sync
from forget.tracking.reading import load_study, read_experiment
from forget.tracking.recovery import publish_audits
from forget.tracking.registry import forgotten_trial, load_forgotten, registered_name
from forget.tracking.stream import trial_sink
from forget.tracking.study import Study, close_study, link, open_study
from forget.tracking.views import newest_link

__all__ = [
    "Study",
    "Unreachable",
    "close_study",
    "forgotten_trial",
    "link",
    "load_forgotten",
    "load_study",
    "newest_link",
    "open_study",
    "publish",
    "publish_audits",
    "read_experiment",
    "registered_name",
    "sync",
    "tracking_uri",
    "trial_sink",
    "ui_command",
]
