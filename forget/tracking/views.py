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
from forget.results.measures import ratio_name
from forget.results.rows import PHASES
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
    "agreement",
    "probe_learned",
    "probe_forgotten",
)
"""Metrics that are columns of the table, and axes of the parallel coordinates."""

MOST_PARAMS = 16
"""Settings that are columns, at most: MLflow takes 5,000 letters of a view."""

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
        key, text = f"{PREFIX}{id}", json.dumps(state, separators=(",", ":"))
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
    first = sweep.first()
    arms = sweep.axes.get("arm", [first.arm])
    ratios = list(dict.fromkeys(map(ratio_name, sorted(arms, key=lambda arm: arm == "flipped"))))
    ratio = ratios[0]
    shown = [*SHOWN, *ratios]
    if len(first.tasks) > 1:
        shown.append(f"{ratio}_elsewhere")
    # An axis of one value tells nothing.
    axes = [key for key in varied if len(sweep.axes.get(key, (0, 0))) > 1]
    compared = [
        _scatter("forgotten_trained", "forgotten"),
        _scatter(f"{ratio}_trained", ratio),
        {
            **_chart("PARALLEL", "parallel"),
            "selectedParams": axes or ["task"],
            # A trial that lacks one of them, e.g. near-duplicates, would be left out.
            "selectedMetrics": ["learned", "forgotten_trained", "forgotten", ratio],
            "showAllRuns": True,
        },
        *map(_bars, ("learned", "forgotten_trained", "forgotten", ratio)),
    ]
    probes = []
    for phase in PHASES:
        probes += [_line(f"probe/{phase}"), _line(f"probe_control/{phase}")]
    training = []
    for stage in ("learn", "forget"):
        training += [
            _line(f"{stage}/{curve}") for curve in ("loss", "accuracy", "accuracy_trained")
        ]
    found: dict[str, tuple[str, list[dict[str, Any]]]] = {
        TRIALS: ("Trials", []),
        COMPARED: ("Trained against held out", compared),
        PROBES: ("Probes by layer", probes),
        TRAINING: ("Training", training),
    }
    if sweep.search:
        search = [_scatter(ratio, f"{ratio}_elsewhere")]
        search += [_scatter(key, ratio) for key in sweep.search.settings]
        found[SEARCH] = ("Search", search)
    return {
        id: (name, _state(name, params, shown, charts, ratio))
        for id, (name, charts) in found.items()
    }


def _state(
    name: str,
    params: Sequence[str],
    metrics: Sequence[str],
    charts: Sequence[dict[str, Any]],
    by: str,
) -> dict[str, Any]:
    """Return the state of MLflow's page with these columns and charts.

    Trials alone are listed, and by a number, the largest first: sorted by their date, they would be
    folded up under their sweep.
    """
    columns = [f"params.`{name}`" for name in params[:MOST_PARAMS]]
    columns += [f"tags.`{name}`" for name in STATES]
    columns += [f"metrics.`{name}`" for name in metrics]
    state: dict[str, Any] = {
        "searchFilter": "tags.`forget.trial` != ''",
        "orderByKey": f"metrics.`{by}`",
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
        # Otherwise sections stand by the alphabet, and ours below those that MLflow adds.
        "isAccordionReordered": True,
        "groupBy": None,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "autoRefreshEnabled": False,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0},
    }
    if charts:
        # A section that is named as the first part of metrics gets charts of all these as well.
        section = {"uuid": "forget", "name": name, "display": True, "isReordered": False}
        state["compareRunSections"] = [section]
        state["compareRunCharts"] = list(charts)
    return state


def _chart(type: str, name: str) -> dict[str, Any]:
    """Return what every chart has. MLflow writes its metrics above it."""
    return {
        "type": type,
        "uuid": f"forget-{type}-{name}",
        "runsCountToCompare": 100,
        "metricSectionId": "forget",
        "deleted": False,
        "isGenerated": False,
    }


def _bars(metric: str) -> dict[str, Any]:
    return {**_chart("BAR", metric), "metricKey": metric}


def _scatter(x: str, y: str) -> dict[str, Any]:
    chart = _chart("SCATTER", f"{x}-{y}")
    for axis, key in (("xaxis", x), ("yaxis", y)):
        # Of a part of a trial there are settings alone.
        chart[axis] = {"key": key, "type": "PARAM" if "." in key else "METRIC"}
    return chart


def _line(metric: str) -> dict[str, Any]:
    return {
        **_chart("LINE", metric),
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": False,
        "useGlobalXaxisKey": False,
        "ignoreOutliers": False,
    }
