"""The pages of MLflow in a real browser, as the links that we print open them.

Screenshots lie in the test's folder; $FORGET_SHOTS names another, e.g. to write those of docs/.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import servers
from mlflow import MlflowClient

from forget import tracking
from forget.tracking import views

pytestmark = [
    pytest.mark.servers("Debian's chromium and chromium-driver", "test-servers"),
    pytest.mark.timeout(900),
]

SPEC = """
name = "pictures"
description = "How far does forgetting reach?"

[base]
task = "vowels"
model = "tiny"
learn = {{ examples = 64, epochs = 6, lr = 1e-2, batch = 16 }}
forget = {{ examples = 48, epochs = 6, batch = 16 }}
probe = {{ examples = 24 }}
precision = "fp32"
folders = ["{folders}"]

[axes]
task = ["vowels", "upper"]
"forget.lr" = [1e-2, 1e-3]

[resources]
cpus = 1
"""
TRIALS = 4

WAIT = 90
"""Seconds that a page may take on a busy machine."""


def forget(folder: Path, environment: Mapping[str, str], *words: str) -> str:
    """Run the command in a process of its own, and return what it printed."""
    clean = servers.clean(folder) | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    command = [sys.executable, "-m", "pipelines.cli", *words]
    done = subprocess.run(
        command, cwd=folder, env=clean, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return headless Chromium, wide enough for every column of the table."""
    servers.needs("selenium")
    from selenium import webdriver

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # Root has no sandbox, and /dev/shm of a container is small.
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(word)
    options.add_argument("--window-size=2800,1300")
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    found.set_page_load_timeout(WAIT)
    # On its first visit MLflow's assistant covers a quarter of the page.
    shut = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"
    script = {"source": f"if (location.protocol == 'http:') {shut}"}
    found.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        yield found
    finally:
        found.quit()


@dataclass(frozen=True)
class Shown:
    """A study on the pages of a server."""

    folder: Path
    link: str
    """As the command printed it."""
    client: MlflowClient


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, toy_tasks: Path) -> Path:
    """Run a sweep into a database beside its store, and return their folder."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "pictures.toml").write_text(SPEC.format(folders=toy_tasks))
    said = forget(folder, {}, "sweep", "pictures.toml")
    assert views.TRIALS in said.splitlines()[-1]
    return folder


@pytest.fixture(scope="module", params=["SQLite", "the tracking server"])
def shown(request: pytest.FixtureRequest, study: Path, browser: Any) -> Iterator[Shown]:
    """Serve the study by `forget ui`, or by the server of a cluster that `forget sync` fills."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        if request.param == "SQLite":
            (port,) = servers.free_ports(1, "127.0.0.1")
            uri = f"sqlite:///{study}/mlflow.db"
            patch.setenv("MLFLOW_TRACKING_URI", uri)
            # What `forget ui` would have a browser do.
            opened = study / "opened"
            script = study / "browser"
            script.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
            script.chmod(0o755)
            environment = servers.clean(study) | {
                "MLFLOW_TRACKING_URI": uri,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "BROWSER": f"{script} %s",
            }
            command = [sys.executable, "-m", "pipelines.cli", "ui", "--port", str(port)]
            serving = servers.Server(
                command, study / "ui.log", opened.exists, environment, cwd=study
            )
            stack.enter_context(serving)
            link = opened.read_text().strip()
            assert link == tracking.newest_link(f"http://127.0.0.1:{port}")
            yield Shown(study, link, MlflowClient(uri))
            return
        database = stack.enter_context(servers.postgres(study))
        s3 = stack.enter_context(servers.seaweedfs(study))
        server = stack.enter_context(servers.mlflow_server(study, database, s3))
        link = forget(study, server.environment, "sync", "pictures.toml").splitlines()[-1]
        for name, value in server.environment.items():
            patch.setenv(name, value)
        # Of an address with a password Chromium lets no page ask for anything more.
        known = base64.b64encode(f"{server.user}:{server.password}".encode()).decode()
        headers = {"headers": {"Authorization": f"Basic {known}"}}
        browser.execute_cdp_cmd("Network.enable", {})
        browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", headers)
        yield Shown(study, link, MlflowClient(server.uri))


@dataclass(frozen=True)
class Page:
    """A page in the browser."""

    browser: Any
    folder: Path

    def open(self, url: str) -> None:
        # A fragment alone would not load the page again.
        self.browser.get("about:blank")
        self.browser.get(url)

    def until(self, ready: Callable[[], Any], what: str) -> Any:
        """Wait until something is on the page, and return it."""
        from selenium.common.exceptions import TimeoutException, WebDriverException
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.browser, WAIT, ignored_exceptions=(WebDriverException,))
        try:
            return wait.until(lambda _: ready())
        except TimeoutException:
            self.shoot("late")
            raise AssertionError(f"{what} is not on the page:\n{self.text()}") from None

    def text(self) -> str:
        return str(self.browser.execute_script("return document.body.innerText"))

    def has(self, *words: str) -> None:
        """Wait until the page has all the words."""
        for word in words:
            self.until(lambda word=word: word.lower() in self.text().lower(), word)

    def count(self, selector: str) -> int:
        script = f"return document.querySelectorAll({json.dumps(selector)}).length"
        return int(self.browser.execute_script(script))

    def shoot(self, name: str) -> None:
        folder = Path(os.environ.get("FORGET_SHOTS", self.folder))
        self.browser.save_screenshot(str(folder / f"mlflow-{name}.png"))


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Page:
    return Page(browser, tmp_path)


def of_view(link: str, view: str) -> str:
    """Return the link to another view of the same study."""
    other = link.replace(views.TRIALS, view)
    return other if view == views.TRIALS else other.replace("Mode=TABLE", "Mode=CHART")


def test_the_link_opens_the_table_of_trials(shown: Shown, page: Page) -> None:
    page.open(shown.link)
    page.has("forget ratio".replace(" ", "_"), "end_state", "forgotten_trained", "probe_forgotten")
    page.has("tiny vowels random lr=0.01", "tiny upper random lr=0.001")
    assert "No data" not in page.text()
    page.shoot("trials")
    table = page.text()
    for name in ("task", "model", "method", "forget.lr", "arm", "seed", *views.SHOWN):
        assert name in table, name


def test_the_charts_have_a_point_a_trial(shown: Shown, page: Page) -> None:
    page.open(of_view(shown.link, views.COMPARED))
    page.has("Trained against held out", "forgotten_trained vs. forgotten")
    page.until(lambda: page.count(".scatterlayer path.point") >= 2 * TRIALS, "a point a trial")
    page.until(lambda: page.count(".barlayer .point") >= TRIALS, "a bar a trial")
    page.shoot("charts")


@pytest.mark.parametrize(
    ("view", "names"),
    [
        (views.PROBES, ["probe/learned", "probe/forgotten", "probe_control/learned"]),
        (views.TRAINING, ["learn/loss", "forget/loss", "forget/accuracy_trained"]),
    ],
    ids=["probes", "training"],
)
def test_the_curves_are_drawn(shown: Shown, page: Page, view: str, names: list[str]) -> None:
    page.open(of_view(shown.link, view))
    page.has(*names)
    page.until(lambda: page.count(".scatterlayer .js-line") >= TRIALS, "a line a trial")
    page.shoot(view.removeprefix("forget-"))


def test_a_run_says_what_was_done(shown: Shown, page: Page) -> None:
    base, _, rest = shown.link.partition("#/experiments/")
    experiment = rest.partition("/")[0]
    child = shown.client.search_runs([experiment], "tags.`forget.trial` != ''", max_results=1)[0]
    page.open(f"{base}#/experiments/{experiment}/runs/{child.info.run_id}")
    page.has("What became of it", "learned the task", "held-out examples", "forget.load_forgotten")
    assert not re.search(r"</?(table|b)>|\*\*", page.text())
    page.shoot("run")
    page.open(f"{base}#/experiments/{experiment}/runs/{child.info.run_id}/artifacts/numbers.json")
    page.has("measure", "accuracy")
    page.shoot("numbers")
    parent = child.data.tags["mlflow.parentRunId"]
    page.open(f"{base}#/experiments/{experiment}/runs/{parent}")
    page.has("claim", "verdict", "Report")
    page.shoot("sweep")


def test_a_model_version_has_its_card(shown: Shown, page: Page) -> None:
    base = shown.link.partition("#")[0]
    page.open(f"{base}#/models/forgotten-tiny-vowels/versions/1")
    page.has("after forgetting vowels", "Warning", "Report", "forget_ratio")
    page.shoot("version")
