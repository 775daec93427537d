"""Specs and trials as they are read from files, and the sentences that refuse a wrong one."""

from pathlib import Path

import pytest

from forget.errors import BadInput
from forget.models.catalogue import MODELS
from forget.settings.reading import BUILT_IN, SPECS, read_sweep, read_trial, spec_path

BASE = '[base]\ntask = "a"\nmodel = "tiny"\n'
SEARCH = BASE + "[search.settings]\n"


def refusal(folder: Path, text: str) -> str:
    """Return the words in which a spec is refused, after its path."""
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput) as error:
        read_sweep(path)
    said = str(error.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bas = 3", 'unknown key "bas"; did you mean "base"?'),
        ("base = 3", "base: should be a table, not 3"),
        ("name = 'a b'\n" + BASE, "name: string should match pattern"),
        ('[base]\ntask = "a"\n', "base.model: field required"),
        ('[base]\ntask = 1\nmodel = "tiny"\n', "base.task: input should be a valid string, not 1"),
        (BASE + "tunning = 'full'", 'unknown key "base.tunning"; did you mean "tuning"?'),
        (BASE + "learn.epoch = 1", 'unknown key "base.learn.epoch"; did you mean "epochs"?'),
        (BASE + "forget = 3", "base.forget: should be a table, not 3"),
        (BASE + "forget.lr = 5", "base.forget.lr: input should be less than 1, not 5"),
        (BASE + "forget.lr = 'fast'", "base.forget.lr: input should be a valid number"),
        (BASE + "forget.lr = nan", "base.forget.lr: input should be a finite number, not nan"),
        (BASE + "forget.clip = inf", "base.forget.clip: input should be a finite number, not inf"),
        (
            BASE + "arm = 'rand'",
            "base.arm: input should be 'random', 'true', 'balanced', 'shuffled_inputs', "
            "'untaught', 'random_each_epoch' or 'flipped', not 'rand'",
        ),
        (
            BASE + "labels = 'flipped'",
            "base: labels is no setting any more: write arm in its place, which says what "
            "forgetting trains on",
        ),
        (
            BASE + "[axes]\nlabels = ['random', 'flipped']",
            "axes: labels is no setting any more: write arm in its place",
        ),
        (
            BASE + "learn.until = { trained_lost = 0.9 }",
            'unknown key "base.learn.until"',
        ),
        (
            BASE + "forget.until = { trained_lst = 0.9 }",
            'unknown key "base.forget.until.trained_lst"; did you mean "trained_lost"?',
        ),
        (
            BASE + "forget.until.trained_lost = 1.5",
            "base.forget.until.trained_lost: input should be less than or equal to 1, not 1.5",
        ),
        (BASE + "evaluate_on = 3", "base.evaluate_on: should be a list, not 3"),
        (
            BASE + "probe.layers = 'al'",
            "base.probe.layers: should be \"all\" or a list of whole numbers, not 'al'",
        ),
        (
            BASE + "probe.layers = [1, 'x']",
            "base.probe.layers: should be \"all\" or a list of whole numbers, not [1, 'x']",
        ),
        (BASE + "[axes]\nseed = 3", "axes.seed: should be a list, not 3"),
        (BASE + "[axes]\nseed = []", "axes.seed has no values"),
        (BASE + "[axes]\nsede = [1]", 'unknown key "axes.sede"; did you mean "seed"?'),
        (BASE + "[axes]\nseed = [1, 1]", "two combinations of the axes are the same trial"),
        (BASE + "[axes]\nforget.lrr = [1e-4]", 'unknown key "axes.forget.lrr"; did you mean "lr"?'),
        (
            BASE + "[axes]\n'forget.lr' = [1e-4, 5]",
            "axes.forget.lr: input should be less than 1, not 5",
        ),
        (
            BASE + "[axes]\nforget = [{lr = 5}]",
            "axes.forget.lr: input should be less than 1, not 5",
        ),
        (BASE + "[resources]\ncpu = 1", 'unknown key "resources.cpu"; did you mean "cpus"?'),
        (
            BASE + "[resources]\nshard = true",
            "resources: shard = true shares a model out over several processes: workers must",
        ),
        (
            BASE + "arm = 'untaught'\n[search.settings]\n'forget.lr' = {low = 1e-5, high = 1e-3}",
            'search weighs the share of a learned skill that is lost, which arm = "untaught"',
        ),
        (BASE + "[search]\ntrials = 2", "search.settings: field required"),
        (
            SEARCH + "forget.lrr = {low = 1e-5, high = 1e-4}",
            'unknown key "search.settings.forget.lrr"',
        ),
        (
            SEARCH + "forget.lr = {low = 1e-4, high = 1e-5}",
            "search.settings.forget.lr: low 0.0001 is not below",
        ),
        (
            SEARCH + "forget.lr = {low = 1e-4, high = 2}",
            "search.settings.forget.lr: input should be less than 1",
        ),
        (
            SEARCH + "forget.lr = {low = 0, high = 1, log = true}",
            "search.settings.forget.lr: low 0.0 is not above 0",
        ),
        (
            SEARCH + "forget.lr = {lo = 0, high = 1}",
            'unknown key "search.settings.forget.lr.lo"; did you mean "low"?',
        ),
        (
            SEARCH + "forget.epochs = {low = 1, high = 5}",
            "search.settings.forget.epochs: input should be a valid integer",
        ),
        (
            SEARCH + "forget.lr = {low = 0.1, high = 0.2}\n[axes]\nforget.lr = [1e-3]",
            "search.settings.forget.lr is an axis as well",
        ),
        (
            SEARCH + "forget.lr = {low = 0.1, high = 0.2}\n[axes]\nforget = [{lr = 0.1}]",
            "search.settings.forget.lr is an axis as well",
        ),
        (
            BASE + "template = “qa”",
            "not valid TOML: Invalid value (at line 4, column 12); “ is a typographic quote",
        ),
        ("name =", "not valid TOML: "),
        (f"description = {'[' * 50}1{']' * 50}", "more than 20 tables or lists within each other"),
        (f"description = {'[' * 5000}", "not valid TOML: "),
        (f"name = {'9' * 5000}", "not valid TOML: Exceeds the limit"),
        (BASE + 'folders = "a\\u0000b"', "base.folders: the task folder"),
        (BASE + "seed = -1", "base.seed: input should be greater than or equal to 0, not -1"),
        (
            BASE + "learn.epochs = 10000000000",
            "base.learn.epochs: input should be less than or equal to 1000000000",
        ),
        (
            BASE + "template = 'a\u2028b'",
            "base.template: 'a\\u2028b' holds a character that cannot be printed",
        ),
        (
            BASE + f"[axes]\nseed = {list(range(400))}\n'forget.batch' = {list(range(1, 300))}",
            "the axes and the search make 119,600",
        ),
        (BASE + f"{'x' * 900} = 1", f'unknown key "base.{"x" * 40}...{"x" * 37}"'),
    ],
)
def test_a_mistake_in_a_spec_is_one_sentence_with_its_place(
    tmp_path: Path, text: str, words: str
) -> None:
    assert refusal(tmp_path, text).startswith(words)


def test_a_spec_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"gone\.toml: the file cannot be read \(No such file or directory\)"
    ):
        read_sweep(tmp_path / "gone.toml")
    (tmp_path / "dir.toml").mkdir()
    with pytest.raises(BadInput, match=r"dir\.toml: the file cannot be read \(Is a directory\)"):
        read_sweep(tmp_path / "dir.toml")
    (tmp_path / "latin.toml").write_bytes('name = "é"'.encode("latin-1"))
    with pytest.raises(
        BadInput,
        match=r"latin\.toml, line 1: not UTF-8 at byte 9 .*; save the file as UTF-8",
    ):
        read_sweep(tmp_path / "latin.toml")
    with pytest.raises(BadInput, match='no spec is named "quickstat"; did you mean "quickstart"'):
        read_sweep("quickstat")


def test_a_trial_comes_from_toml_or_json(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(
        'task = "a"\nmodel = "tiny"\nforget.lr = 0.01\nfolders = ["mine"]', encoding="utf-8"
    )
    (tmp_path / "t.json").write_text(
        '{"task": "a", "model": "tiny", "forget.lr": 0.01, "folders": "mine"}', encoding="utf-8"
    )
    trial = read_trial(tmp_path / "t.toml")
    assert trial == read_trial(tmp_path / "t.json")
    assert trial.forget.lr == 0.01
    # A folder is named relative to the file that names it.
    assert trial.folders == (str(tmp_path / "mine"),)
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(BadInput, match=r"list\.json: not a table of fields"):
        read_trial(tmp_path / "list.json")
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match=r"broken\.json: not valid JSON"):
        read_trial(tmp_path / "broken.json")
    (tmp_path / "empty.toml").touch()
    with pytest.raises(BadInput, match="task: field required"):
        read_trial(tmp_path / "empty.toml")


def test_the_folders_of_a_spec_lie_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        BASE + 'folders = "mine"\n[axes]\nfolders = [["one"], ["/two", "~/three"]]',
        encoding="utf-8",
    )
    sweep = read_sweep(path)
    assert sweep.name == "study"
    assert sweep.base["folders"] == str(tmp_path / "mine")
    assert [trial.folders for trial in sweep.trials()] == [
        (str(tmp_path / "one"),),
        ("/two", str(Path.home() / "three")),
    ]


def test_every_spec_that_ships_can_be_read() -> None:
    specs = sorted(SPECS.glob("*.toml"))
    assert specs
    for path in specs:
        assert read_sweep(path.stem) == read_sweep(path)
        assert spec_path(path.stem) == path


def test_bare_and_quoted_dotted_keys_are_the_same_spec(tmp_path: Path) -> None:
    specs = []
    for number, quote in enumerate(("", '"')):
        path = tmp_path / f"{number}.toml"
        key, search = f"{quote}forget.lr{quote}", f"{quote}learn.lr{quote}"
        path.write_text(
            f'name = "s"\n{BASE}[axes]\n{key} = [1e-3, 1e-2]\n'
            f"[search.settings]\n{search} = {{low = 1e-5, high = 1e-3}}",
            encoding="utf-8",
        )
        specs.append(read_sweep(path))
    assert specs[0] == specs[1]
    assert [t.forget.lr for t in specs[0].trials()] == [1e-3, 1e-2]
    assert specs[0].search is not None
    assert specs[0].search.settings["learn.lr"].high == 1e-3


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_are_named(encoding: str, tmp_path: Path) -> None:
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    (tmp_path / "s.toml").write_bytes(f"{mark}{BASE}".encode(encoding))
    named = encoding.upper().removesuffix("-LE")
    with pytest.raises(BadInput, match=rf"s\.toml: saved as {named}; save it as UTF-8"):
        read_sweep(tmp_path / "s.toml")


def test_a_mark_before_the_first_letter_is_passed_over(tmp_path: Path) -> None:
    for suffix, text in ((".toml", 'task = "a"\nmodel = "tiny"'), (".json", "{}")):
        (tmp_path / f"s{suffix}").write_text(text, encoding="utf-8-sig")
    assert read_trial(tmp_path / "s.toml").task == "a"
    with pytest.raises(BadInput, match=r"s\.json: task: field required"):
        read_trial(tmp_path / "s.json")


def test_a_line_that_is_not_utf8_is_named_with_what_it_may_say(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_bytes(BASE.encode() + 'family = "naïve"'.encode("latin-1"))
    with pytest.raises(BadInput, match=r"s\.toml, line 4: not UTF-8 at byte 13 .saved as Latin-1"):
        read_sweep(tmp_path / "s.toml")


def test_every_path_of_a_spec_belongs_to_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study := tmp_path / "study").mkdir()
    for name in ("mine", "models/mine", "gpt2"):
        (study / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    home = Path.home()
    read = {
        "mine": f"{study}/mine",
        "mine/1": f"{study}/mine/1",
        "models/mine": f"{study}/models/mine",
        "./gone": f"{study}/gone",
        "../gone/2": f"{tmp_path}/gone/2",
        "~/mine": f"{home}/mine",
        "/mine": "/mine",
        # Names of models, and of the hub's, stay as they are.
        "gpt2": "gpt2",
        "gpt2/3": "gpt2/3",
        "tiny": "tiny",
        "owner/name": "owner/name",
        "owner/name@v1/3": "owner/name@v1/3",
    }
    path = study / "s.toml"
    path.write_text(
        f'store = "st"\n[base]\ntask = "a"\nfolders = "mine"\n[axes]\nmodel = {list(read)}'
    )
    sweep = read_sweep("study/s.toml")
    assert [trial.model for trial in sweep.trials()] == list(read.values())
    assert (sweep.store, sweep.base["folders"]) == (f"{study}/st", f"{study}/mine")
    for given, store in {"~/st": f"{home}/st", "s3://b/x": "s3://b/x", "/st": "/st"}.items():
        path.write_text(f'store = "{given}"\n{BASE}')
        assert read_sweep(path).store == store
    (study / "t.json").write_text('{"task": "a", "model": "mine"}')
    assert read_trial(study / "t.json").model == f"{study}/mine"


def test_a_model_of_the_working_directory_is_none_of_a_spec_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("study", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "study" / "s.toml").write_text(BASE.replace("tiny", "mine"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r'base\.model: "mine" is a folder .* write "\.\./mine"'):
        read_sweep("study/s.toml")


def test_nor_is_a_folder_of_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("study", "mine"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study" / "s.toml").write_text(
        '[base]\ntask = "a"\nmodel = "tiny"\nfolders = ["mine"]'
    )
    with pytest.raises(BadInput, match=r'base\.folders: "mine" is a folder.*write "\.\./mine"'):
        read_sweep("study/s.toml")


def test_the_names_that_no_folder_takes_over_are_those_of_models() -> None:
    assert set(MODELS) == BUILT_IN
