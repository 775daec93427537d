"""Names that come from elsewhere.

No path leaves its folder; on pages, in tables and figures and at a terminal names are text.
"""

import csv
import itertools
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from conftest import Forget
from report.test_report import Page, written
from studies import LOSES, finish, study_of

from forget.analyses.compare import compare
from forget.errors import BadInput, validated
from forget.redaction import without_secrets
from forget.report.compare import folder_name
from forget.report.compare import write as write_comparison
from forget.report.section import Table
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.remote import Remote
from forget.storage.store import Store
from forget.tasks import catalogue
from forget.tracking import registered_name

ROOT = Path(__file__).parent.parent
PAGES = [
    page for name in ("security", "operations") if (page := ROOT / "docs" / f"{name}.md").exists()
]

OUT = ("../out", "a/../../out", "../../../../../../tmp/out", "/tmp/out", "", "a\0b")
"""Names that lead out of the folder they are meant for, or are none."""


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", OUT)
def test_no_entry_lies_outside_its_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FORGET_CACHE", str(tmp_path / "cache"))
    store, shared = Store(tmp_path / "in" / "store"), Store(f"file://{tmp_path}/shared")
    before = files(tmp_path)
    calls: list[Callable[[Store], object]] = [
        lambda store: store.fetch_file(name),
        lambda store: store.fetch_growing(name),
        lambda store: store.fetch_folder(name),
        lambda store: store.delete(name),
        lambda store: store.drop_copy(name) if store.remote else store.fetch_folder(name),
        lambda store: store.replace(name).__enter__(),
    ]
    for call in calls:
        for one in (store, shared):
            with pytest.raises(BadInput, match="leads out of it"):
                call(one)
    assert files(tmp_path) == before


@pytest.mark.parametrize("id", ["../../out", "/tmp/out", "a/../../../out"])
def test_no_trial_lies_outside_its_store(tmp_path: Path, id: str) -> None:
    store = Store(tmp_path / "store")
    if id.startswith("/"):
        # An absolute part in the middle of a name is none.
        assert Trials(store).folder(id).is_relative_to(store.root / "trials")
        return
    for call in (Trials(store).folder, Trials(store).outcome, Trials(store).rows):
        with pytest.raises(BadInput, match="leads out of it"):
            call(id)


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/tmp/forget-out"])
def test_a_manifest_writes_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    """Whoever may write to a bucket may not write to the machines that read it."""
    remote = Remote(f"file://{tmp_path}/shared")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "x").write_text("1")
    version = remote.push("learned/abc", tmp_path / "made")
    shutil.copytree(
        tmp_path / "shared" / f"learned/abc.{version}", tmp_path / "shared" / "learned" / "out"
    )
    manifest = tmp_path / "shared" / "learned" / "abc.manifest"
    manifest.write_text(json.dumps({"version": version, "files": {name: "0" * 64}}))
    folder = tmp_path / "here" / "folder"
    folder.mkdir(parents=True)
    before = files(tmp_path)
    with pytest.raises(BadInput, match="leads out of it"):
        remote.pull("learned/abc", folder)
    assert files(tmp_path) == before
    assert not Path("/tmp/forget-out").exists()


@pytest.mark.parametrize("version", ["../../..", "/x/../../keep", "", "0123456789abcdeg"])
def test_a_manifest_deletes_nothing_but_its_own(tmp_path: Path, version: str) -> None:
    remote = Remote(f"file://{tmp_path}/shared")
    (tmp_path / "keep").mkdir()
    (tmp_path / "shared" / "learned" / "abc.").mkdir(parents=True)
    (tmp_path / "shared" / "learned" / "abc.manifest").write_text(
        json.dumps({"version": version, "files": {}})
    )
    before = files(tmp_path)
    for call in (remote.remove, remote.version, lambda name: remote.push(name, tmp_path / "keep")):
        with pytest.raises(BadInput, match="was not written by forget"):
            call("learned/abc")
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["../out", "a/b", "..", ".hidden", "a\n", "<b>", ""])
def test_a_study_is_named_by_one_part_of_a_path(name: str) -> None:
    """It names the experiment, the report's folder and that of the artifacts."""
    with pytest.raises(BadInput, match="name: "):
        validated(Sweep, {"name": name, "base": {"task": "world", "model": "tiny"}})


@pytest.mark.parametrize("a", ["../../out", "/etc", "..", ".", "a/../..", "x" * 300])
def test_experiments_of_any_name_make_one_folder(a: str) -> None:
    name = folder_name(a, "b")
    assert Path(name).name == name
    assert not name.startswith(".")
    assert len(os.fsencode(name)) < 255


@pytest.mark.parametrize("name", ["..evil", "<script>", "a b", "$x", "=1+1", "a\nb"])
def test_a_task_is_named_by_letters_and_digits(toy_tasks: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(toy_tasks / "vowels", tmp_path / "tasks" / name)
    with pytest.raises(BadInput, match="cannot name a task"):
        catalogue([str(tmp_path / "tasks" / name)])


def test_a_link_in_a_task_folder_gives_nothing_of_its_target_away(tmp_path: Path) -> None:
    """Links are followed, since data lie elsewhere.

    What is no item is refused, and the sentence does not quote it.
    """
    (tmp_path / "secret").write_text("[default]\naws_secret_access_key = hunter22\n")
    (tmp_path / "task").mkdir()
    for split in ("train", "test"):
        (tmp_path / "task" / f"{split}.jsonl").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput) as error:
        catalogue([str(tmp_path / "task")])["task"].records("train")
    assert str(error.value).endswith(
        "train.jsonl, line 1: not valid JSON: Expecting value at column 2"
    )


def test_a_registered_model_is_named_by_letters_and_digits() -> None:
    assert registered_name("../../<b>/x@y", "$\\frac{") == "forgotten-..-..-b-x-y-frac"


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "' onmouseover='alert(3)",
    "</style><style>*{display:none}</style>",
    "</title></table></details><svg onload=alert(4)>",
    "javascript:alert(5)",
    "<a href=javascript:alert(6)>x</a><!--",
    "&lt;b&gt;{{ 7 * 7 }}{% raw %}",
    "$\\frac{$^_\\",
    "=HYPERLINK(0)",
)


def study(names: tuple[str, ...], folder: Path) -> tuple[Page, set[str]]:
    """Write a report in which the names stand.

    Tasks, the model, a setting, the description and the failures bear them.
    """
    sweep = Sweep(
        name="study",
        description="".join(names),
        base={"evaluate_on": names[:2], "model": names[2]},
        axes={"task": list(names[:2]), "template": list(names[3:5])},
    )
    outcomes, rows = finish(sweep, dict.fromkeys(names[:2], LOSES), n=60, layers=2)
    page = Page(written(sweep, outcomes[1:], rows, folder, list(names)).page)
    return page, {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("undrawn")
def test_hostile_names_make_no_element_attribute_or_file(tmp_path: Path) -> None:
    """The page has the very tags and attributes that it has with harmless names.

    The text says the names as they are.
    """
    harmless = tuple(f"name {letter}" for letter in "abcdefghij")
    (page, made), (usual, expected) = (
        study(HOSTILE, tmp_path / "hostile"),
        study(harmless, tmp_path / "harmless"),
    )

    def shape(page: Page) -> Counter[tuple[str, tuple[str, ...]]]:
        return Counter((tag, tuple(attributes)) for tag, attributes in page.tags)

    assert shape(page) == shape(usual)
    assert made == expected
    for attribute in ("href", "id", "class"):
        assert Counter(page.all(attribute)) == Counter(usual.all(attribute))
    for name in HOSTILE:
        assert name in page.text


def test_a_table_holds_no_formula(tmp_path: Path) -> None:
    texts = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"]
    path = Table("some", [{"task": text, "value": -0.5} for text in texts]).write(tmp_path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    assert rows == [[f"'{text}", "-0.5"] for text in texts]


def test_a_comparison_of_hostile_experiments_is_text(tmp_path: Path) -> None:
    sweep = Sweep(
        name="s",
        base={"model": "tiny"},
        axes={"task": list(HOSTILE[:2]), "template": list(HOSTILE[8:])},
    )
    done = study_of(*finish(sweep, dict.fromkeys(HOSTILE, LOSES), n=20))
    paths = write_comparison(compare(done, done), "=1+1", "$\\frac{", tmp_path / "compared")
    assert {path.parent for path in paths} == {tmp_path / "compared"}
    for path in paths:
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                cells = list(itertools.chain(*csv.reader(file)))
            assert not [cell for cell in cells if re.match(r"[=+@\t\r]|-(?!\d)", cell)]


@pytest.mark.parametrize("key", ["task", "model", "evaluate_on", "template", "method"])
@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "a\rb", "\x9b2J", "\u202eegats"])
def test_a_name_is_no_command_to_the_terminal(key: str, text: str) -> None:
    with pytest.raises(BadInput, match="a character that cannot be printed") as error:
        validated(Trial, {"task": "world", "model": "tiny", key: text})
    assert text not in str(error.value)


def test_a_refusal_is_no_command_to_the_terminal(forget: Forget, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(
        json.dumps({"auto_map": {"AutoModel": "\x1b]0;owned\x07"}})
    )
    (tmp_path / "model" / "model.safetensors").touch()
    code, _, stderr = forget("probe", str(tmp_path / "model"), "--task", "world")
    assert code == 2
    assert "owned" in stderr
    assert "\x1b" not in stderr


def test_names_are_no_markup(forget: Forget, toy_tasks: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_tasks, tmp_path / "[red]" / "[" / "]")
    code, stdout, _ = forget("tasks", "--folder", str(tmp_path / "[red]" / "[" / "]"))
    assert code == 0
    assert "[red]/[/]/vowels" in stdout


SECRETS = {
    "DB_PASSWORD": "hunter/22@+",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
    "HF_TOKEN": "hf_secret",
    "my_api_key": 'quote"d',
    "AZURE_STORAGE_CONNECTION_STRING": "AccountKey=abcd==",
    "MLFLOW_TRACKING_URI": "http://me:pass%2Fword%40@tracking.example:5000",
    "https_proxy": "http://me:proxied@proxy.example",
}
TOLD = {
    **{f"the value of {name}": f"refused: {value}" for name, value in SECRETS.items()},
    "in a URL": f"GET http://host/x?token={quote(SECRETS['DB_PASSWORD'], safe='')}",
    "in a form": f"pw={quote_plus(SECRETS['DB_PASSWORD'])}",
    "in JSON": json.dumps({"key": SECRETS["my_api_key"]}),
    "the password of an address": "password pass/word@ is wrong",
    "a part of a longer one": "hf_secret hunter/22@+",
    "an address of elsewhere": "no answer from postgresql://u:elsewhere@db.example/x",
    "a password that is not quoted": "no answer from http://u:else@where@db.example/x",
    "a query": "postgresql://db.example/x?user=u&password=elsewhere",
    "what libpq says": "host=db user=u password=elsewhere dbname=x",
}


@pytest.mark.parametrize("text", TOLD.values(), ids=TOLD)
def test_a_text_is_told_without_its_secrets(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    told = without_secrets(text)
    for part in (
        "hunter",
        "wJalr",
        "hf_secret",
        "quote",
        "abcd",
        "pass/word",
        "pass%2F",
        "proxied",
        "elsewhere",
        "where",
    ):
        assert part not in told
    assert "***" in told


def test_a_text_without_secrets_stays_as_it_is() -> None:
    text = "s3://bucket/studies: eos_token=<pad> at https://docs.example/a?b=c, me@example.com"
    assert without_secrets(text) == text


def test_a_bug_is_told_without_secrets(forget: Forget, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folders: object) -> None:
        raise RuntimeError("no answer from http://me:hunter22@tracking.example")

    monkeypatch.setattr("forget.tasks.catalogue", fail)
    code, _, stderr = forget("tasks")
    assert code == 1
    assert "Traceback" in stderr
    assert "RuntimeError: no answer from http://***@tracking.example" in stderr


def test_a_store_whose_url_holds_a_password_is_refused() -> None:
    with pytest.raises(BadInput, match="the store's URL holds a password") as error:
        Store("s3://key:hunter22@bucket/studies")
    assert "hunter22" not in str(error.value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"(test_\w+\.py)::(test_\w+)", page.read_text(encoding="utf-8"))
    assert named
    for file, test in named:
        texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob(file)]
        assert any(f"def {test}(" in text for text in texts), f"{file}::{test}"
