"""The load: requests are told apart, the page holds the numbers, and a small load does no harm."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load import page, wire
from benchmarks.load.page import Grown, Load, Record
from benchmarks.load.watching import Used, hottest
from benchmarks.load.wire import Call
from benchmarks.machine import describe

ROOT = Path(__file__).parents[2]

LOAD = Load(
    part="versions",
    size=1000,
    machine={"processor": "a processor", "cores": "2", "mlflow": "3", "commit": "abc"},
    seconds=100.0,
    others=0.4,
    rates={"requests a second": 12.0},
    wrong={"retries": 0},
    kinds=wire.kinds([Call("GET runs/get", 0.0, 0.1, 200, 0)]),
    used={"server": Used(megabytes=700.0, early=600.0, processor=50.0, processes=4)},
    growth={"database": 2048.0},
    profiles={"server": (" 50.0% get_run",)},
    grown=(
        Grown(
            question="list all versions",
            versions=(1, 1000),
            middle=(10.0, 900.0),
            worst=(12.0, 950.0),
        ),
    ),
)

PROSE = {
    "opening": "",
    "closing": "The end.",
    "versions": "What.",
    "versions-bottleneck": "The first bottleneck.",
}


@pytest.mark.parametrize(
    ("method", "url", "kind"),
    [
        ("GET", "http://h:1/api/2.0/mlflow/runs/get?run_id=1", "GET runs/get"),
        (
            "PATCH",
            f"http://h/api/2.0/mlflow/logged-models/m-{'a1' * 16}/tags",
            "PATCH logged-models/*/tags",
        ),
        (
            "PUT",
            f"http://h/api/2.0/mlflow-artifacts/artifacts/1/{'b' * 32}/artifacts/rows.parquet",
            "PUT artifacts/*.parquet",
        ),
        ("GET", "http://h/api/2.0/mlflow-artifacts/artifacts?path=1%2Fx", "GET artifacts"),
    ],
)
def test_what_a_request_names_is_no_part_of_its_kind(method: str, url: str, kind: str) -> None:
    assert wire.kind(method, url) == kind


def test_latencies_are_shared_out_by_kind_and_the_rest_is_summed_up() -> None:
    calls = [Call("slow", 0, 0.1 * i, 200, 0) for i in range(101)] + [
        Call(f"rare {i}", 0, 0.001, 200, 0) for i in range(3)
    ]
    slow, *_, others, every = wire.kinds(calls, most=2)
    assert (slow.kind, slow.calls) == ("slow", 101)
    assert (slow.p50, slow.p95, slow.p99) == pytest.approx((5000, 9500, 9900))
    assert (others.calls, every.calls) == (2, 104)


def test_every_process_is_recorded_with_its_answers_and_its_failures(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(wire.SITE)
    script = """
        import contextlib, http.server, os, pathlib, requests, threading

        class Broken(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(503)
                self.end_headers()

        server = http.server.HTTPServer(("127.0.0.1", 0), Broken)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_port}/api/2.0/mlflow/runs/get"
        assert requests.get(at).status_code == 503
        server.shutdown()
        server.server_close()
        with contextlib.suppress(requests.ConnectionError):
            requests.get(at)
        # The next part of a benchmark, with a folder of its own; then none.
        os.environ["FORGET_WIRE"] += "/next"
        pathlib.Path(os.environ["FORGET_WIRE"]).mkdir()
        for _ in range(2):
            with contextlib.suppress(requests.ConnectionError):
                requests.get(at)
            os.environ.pop("FORGET_WIRE", None)
    """
    lines = [line.removeprefix(" " * 8) for line in script.splitlines()]
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", wire.FOLDER: str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=environment, check=True, timeout=60
    )
    assert [(call.kind, call.status) for call in wire.read(tmp_path)] == [
        ("GET runs/get", 503),
        ("GET runs/get", 0),
    ]
    assert [call.status for call in wire.read(tmp_path / "next")] == [0]


def test_a_profile_counts_a_function_once_a_sample(tmp_path: Path) -> None:
    path = tmp_path / "profile.txt"
    path.write_text(
        # The title of a process may be read while it changes, with a line break in it.
        'process 1:"ray::train";\nprocess 1:"python forget/x.py"'
        + ";main (a.py:1);get (forget/x.py:3);get (forget/x.py:4) 3\nmain (a.py:1) 1\n"
    )
    assert hottest(path, "forget/") == [" 75.0% get (forget/x.py)"]


def test_the_section_takes_its_own_place_and_no_other() -> None:
    section = page.section(Record(loads=(LOAD,)), PROSE)
    assert "Other programs had 40% of the processor meanwhile" in section
    assert "| list all versions | 10 (12) | 900 (950) |" in section
    assert "Went wrong: nothing." in section
    assert "get_run" not in section  # profiles and latencies stay in load.json
    failed = LOAD.model_copy(update={"wrong": {"retries": 2, "warnings": 0}})
    assert "Went wrong: retries 2." in page.section(Record(loads=(failed,)), PROSE)
    assert section.endswith("The end.\n")
    before = "# Operations\n\n## Faults\n\nText.\n"
    once = page.with_section(before, section)
    assert once == before + "\n" + section
    between = before + "\n## Load\n\nold\n\n## After\n\nMore.\n"
    assert page.with_section(between, section) == f"{before}\n{section}\n## After\n\nMore.\n"
    assert page.with_section(once, section) == once


def test_what_head_driver_and_server_carry_is_computed_of_what_they_took() -> None:
    took = {"server": 28.0, "driver": 2.0, "Ray's head": 4.0, "workers": 0.0}
    used = {}
    for name, processor in took.items():
        used[name] = Used(megabytes=1640.0, early=0.0, processor=processor, processes=1)
    fakes = LOAD.model_copy(update={"part": "cluster", "size": 4, "used": used, "grown": ()})
    prose = PROSE | {"cluster": "What.", "cluster-bottleneck": "One process each."}
    section = page.section(Record(loads=(fakes,)), prose)
    assert "the server 0.700 s, the driver 0.050 s, Ray's head 0.100 s" in section
    assert "86 of the server, 1,200 of the driver, 600 of Ray's head" in section
    assert "the first limit is the server.** Each fake worker took 410 MB" in section


def test_the_prose_on_fake_workers_names_no_number_that_would_have_to_be_measured() -> None:
    text = page.prose()["cluster"] + page.prose()["cluster-bottleneck"]
    assert not re.search(r"\d[\d,.]* ?(s|ms|MB|GB|a minute)\b", text)


def test_a_part_that_is_measured_again_takes_its_place(tmp_path: Path) -> None:
    page.write(Record(loads=(LOAD,)), tmp_path)
    other = LOAD.model_copy(update={"part": "trials"})
    again = LOAD.model_copy(update={"seconds": 50.0})
    page.write(page.beside(other, tmp_path), tmp_path)
    record = page.beside(again, tmp_path)
    assert record.loads == (other, again)


@pytest.mark.skipif(
    not (ROOT / "docs" / "load.json").exists(), reason="nothing has been measured yet"
)
def test_the_committed_section_is_made_of_the_committed_numbers_and_nothing_went_wrong() -> None:
    record = page.read(ROOT / "docs")
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert page.with_section(text, page.section(record, page.prose())) == text
    # Fake workers in their documented number want a machine that few have.
    measured = [load.part for load in record.loads if load.part != "cluster"]
    assert measured == [part for part in page.PARTS if part != "cluster"]
    for load in record.loads:
        assert not any(load.wrong.values())


def test_a_machine_says_what_the_pages_name() -> None:
    assert {"processor", "cores", "mlflow", "torch", "ray", "commit"} <= describe().keys()


@pytest.mark.servers(make="load")
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("part", "size"), [("trials", 20), ("loggers", 8), ("versions", 30), ("cluster", 2)]
)
def test_nothing_goes_wrong_under_a_small_load(part: str, size: int, tmp_path: Path) -> None:
    pytest.importorskip("psycopg2", reason="pip install -e '.[test-servers]' -c constraints.txt")
    command = [sys.executable, "-m", "benchmarks.load", "--only", part, "--size", str(size)]
    command += ["--pace", "0.1", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if "no PostgreSQL" in done.stderr or "no command `weed`" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    (load,) = json.loads((tmp_path / "load.json").read_text())["loads"]
    assert load["size"] == size
    assert set(load["wrong"].values()) == {0}
    assert load["kinds"][-1]["calls"] > size
