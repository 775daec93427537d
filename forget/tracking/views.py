"""Views of a study that MLflow's page opens by a link: a table of its trials, and three of charts.

A view is a tag of the experiment. Each has an id of ours, and those that a user saved have others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from mlflow.entities import Experiment
from mlflow.tracking import MlflowClient

from forget.redaction import without_secrets
from forget.settings.sweep import Sweep
from forget.tracking.connection import PORT, connect, reaching, tracking_uri

PREFIX = "mlflow.sharedViewState."
TRIALS, COMPARED, PROBES, TRAINING, SEARCH = (
    f"forget-{name}" for name in ("trials", "compared", "probes", "training", "search")
)

SHOWN = (
    "learned",
    "forgotten_trained",
    "forgotten_near",
    "forgotten",
    "forget_ratio",
    "agreement",
    "probe_learned",
    "probe_forgotten",
)
"""Metrics that are columns of the table, and axes of the parallel coordinates."""

STATES = ("end_state_trained", "end_state")
"""Tags that are columns of the table."""

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag by which MLflow opens an experiment on its side of model training."""


def link(server: str, experiment_id: str, view: str = TRIALS) -> str:
    """Return the address of a view on a server's pages."""
    mode = "TABLE" if view == TRIALS else "CHART"
    query = f"viewStateShareKey={view}&compareRunsMode={mode}&workflowType=machine_learning"
    return f"{without_secrets(server).rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"


def address(uri: str, port: int = PORT) -> str:
    """Return where the pages of a tracking server are, which `forget ui` serves of a database."""
    return uri if uri.startswith("http") else f"http://127.0.0.1:{port}"


def newest_link(server: str) -> str | None:
    """Return the address of the trials of the sweep that was started last; None without any.

    Args:
        server: address of the pages. Which sweep is the newest is asked of the tracking server that
            the environment names.

    Raises:
        Unreachable: the tracking server is away.
    """
    uri = tracking_uri()
    with reaching(uri):
        client = connect(uri)
        ids = [one.experiment_id for one in client.search_experiments()]
        parents = client.search_runs(
            ids, "tags.`forget.name` != ''", order_by=["start_time DESC"], max_results=1
        )
    return link(server, parents[0].info.experiment_id) if parents else None


def save(client: MlflowClient, experiment: Experiment, sweep: Sweep) -> None:
    """Write the views of a sweep into its experiment, those that differ from what is there."""
    now = time.time_ns() // 1_000_000
    for id, (name, state) in _views(sweep).items():
        key, text = f"{PREFIX}{id}", json.dumps(state)
        before = json.loads(experiment.tags.get(key, "{}"))
        if (before.get("name"), before.get("state")) != (name, text):
            made = before.get("createdAt", now)
            view = {"name": name, "createdAt": made, "updatedAt": now, "state": text}
            client.set_experiment_tag(experiment.experiment_id, key, json.dumps(view))
    for key, value in KIND.items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(experiment.experiment_id, key, value)


def _views(sweep: Sweep) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return name and state of each view by its id."""
    varied = [*sweep.axes, *(sweep.search.settings if sweep.search else ())]
    params = list(dict.fromkeys(("task", "model", "method", "forget.lr", "arm", "seed", *varied)))
    flipped = "flipped" in (sweep.base.get("arm"), *sweep.axes.get("arm", ()))
    shown = [*SHOWN, "flipped_forget_ratio"] if flipped else [*SHOWN]
    if len(sweep.trials()[0].tasks) > 1:
        shown.append("forget_ratio_elsewhere")
    # An axis of one value tells nothing.
    axes = [key for key in varied if len(sweep.axes.get(key, (0, 0))) > 1]
    compared = [
        _scatter("Trained against held out", "forgotten_trained", "forgotten"),
        _scatter("Forget ratio: trained against held out", "forget_ratio_trained", "forget_ratio"),
        _bars("Learned, held out", "learned"),
        _bars("Forgotten, trained", "forgotten_trained"),
        _bars("Forgotten, held out", "forgotten"),
        _bars("Forget ratio, held out", "forget_ratio"),
        {
            **_chart("PARALLEL", "Settings and numbers"),
            "selectedParams": axes or ["task"],
            "selectedMetrics": shown[:5],
            "showAllRuns": True,
        },
    ]
    probes = []
    for phase, when in (("base", "before"), ("learned", "learned"), ("forgotten", "forgotten")):
        probes.append(_line(f"Probes by layer, {when}", f"probe/{phase}"))
        probes.append(_line(f"Control by layer, {when}", f"probe_control/{phase}"))
    training = []
    for stage in ("learn", "forget"):
        training.append(_line(f"Loss, {stage}", f"{stage}/loss"))
        training.append(_line(f"Accuracy held out, {stage}", f"{stage}/accuracy"))
        training.append(_line(f"Accuracy trained, {stage}", f"{stage}/accuracy_trained"))
    found = {
        TRIALS: ("Trials", _state(params, shown)),
        COMPARED: ("Trained against held out", _state(params, shown, compared)),
        PROBES: ("Probes by layer", _state(params, shown, probes)),
        TRAINING: ("Training", _state(params, shown, training)),
    }
    if sweep.search:
        ratio = "flipped_forget_ratio" if flipped else "forget_ratio"
        search = [_scatter("Forgotten here against elsewhere", ratio, f"{ratio}_elsewhere")]
        search += [_scatter(f"{key}", key, ratio) for key in sweep.search.settings]
        found[SEARCH] = ("Search", _state(params, shown, search))
    return found


def _state(
    params: Sequence[str], metrics: Sequence[str], charts: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return the state of MLflow's page with these columns and charts.

    Trials alone are listed, and by a number: sorted by their date, they would be folded up under
    their sweep.
    """
    columns = [f"params.`{name}`" for name in params]
    columns += [f"tags.`{name}`" for name in STATES]
    columns += [f"metrics.`{name}`" for name in metrics]
    state: dict[str, Any] = {
        "searchFilter": "tags.`forget.trial` != ''",
        "orderByKey": "metrics.`forget_ratio`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "SHOWALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "groupBy": None,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "autoRefreshEnabled": False,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0},
    }
    if charts:
        section = {"uuid": "forget", "name": "forget", "display": True, "isReordered": False}
        state["compareRunSections"] = [section]
        state["compareRunCharts"] = list(charts)
    return state


def _chart(type: str, name: str) -> dict[str, Any]:
    """Return what every chart has."""
    return {
        "type": type,
        "uuid": f"forget-{name}",
        "displayName": name,
        "runsCountToCompare": 100,
        "metricSectionId": "forget",
        "deleted": False,
        "isGenerated": False,
    }


def _bars(name: str, metric: str) -> dict[str, Any]:
    return {**_chart("BAR", name), "metricKey": metric}


def _scatter(name: str, x: str, y: str) -> dict[str, Any]:
    axes = {"xaxis": x, "yaxis": y}
    # Only settings that have a name of their own, and of a part of a trial, hold a point.
    kinds = {
        axis: {"key": key, "type": "PARAM" if "." in key else "METRIC"}
        for axis, key in axes.items()
    }
    return {**_chart("SCATTER", name), **kinds}


def _line(name: str, metric: str) -> dict[str, Any]:
    return {
        **_chart("LINE", name),
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "selectedXAxisMetricKey": "",
        "selectedYAxisMetricKey": "",
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": False,
        "useGlobalXaxisKey": False,
        "ignoreOutliers": False,
    }
