"""A hostile model folder is refused by the file that is why, and none of its code runs."""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from configurations import configuration
from models.test_loading import refusal
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from forget.models import language_model, loading, sources, vetting
from forget.preflight import decide, expand, identify
from forget.settings.sweep import Sweep, overlay
from forget.settings.trial import Trial
from forget.storage.store import Store

Change = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    language_model.save(language_model.tiny(), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Return the path of a file that hostile code would make."""
    return tmp_path / "canary"


class Bomb:
    """An object that makes the file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.canary,)


def archive(content: bytes) -> bytes:
    """Put a pickle in a zip, as torch.save writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("archive/data.pkl", content)
        made.writestr("archive/version", "3")
    return file.getvalue()


def edit(path: Path, **fields: object) -> None:
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**found, **fields}))


PICKLES = [
    "pytorch_model.bin",
    "adapter_model.bin",
    "training_args.bin",
    "model.pt",
    "model.pth",
    "w.PKL",
    "last.ckpt",
    "a.joblib",
]


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("beside", [True, False], ids=["beside safetensors", "alone"])
def test_a_pickle_is_refused_by_name(folder: Path, canary: Path, name: str, beside: bool) -> None:
    (folder / name).write_bytes(archive(pickle.dumps(Bomb(canary))))
    if not beside:
        (folder / "model.safetensors").unlink()
    cure = "remove it from the folder" if beside else "convert it to safetensors"
    if name == "pytorch_model.bin" and not beside:
        cure += ", " + vetting.converting(str(folder))
    for call in (sources.check, loading.load):
        assert (
            refusal(str(folder), call) == f"{folder}: {name} is a pickle, which is not read: {cure}"
        )
    assert not canary.exists()


@pytest.mark.parametrize("wrap", [bytes, archive], ids=["bare", "zip"])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_under_the_name_of_safetensors_is_refused(
    folder: Path, canary: Path, wrap: Callable[[bytes], bytes], protocol: int
) -> None:
    (folder / "model.safetensors").write_bytes(wrap(pickle.dumps(Bomb(canary), protocol)))
    assert "model.safetensors is a pickle, which is not read" in refusal(str(folder))
    assert not canary.exists()


def test_a_header_whose_length_looks_like_a_pickle_is_none(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    # Spaces pad the header, as the format has it, to 0x..80 bytes.
    padding = -(length - 0x80) % 256
    path.write_bytes(
        (length + padding).to_bytes(8, "little")
        + content[8 : 8 + length]
        + b" " * padding
        + content[8 + length :]
    )
    assert path.read_bytes()[:1] == b"\x80"
    assert loading.load(folder).parameters == language_model.tiny().parameters


def sharded(names: Callable[[str], str]) -> Change:
    """Return a change that writes an index, by which `names` says where each weight is."""

    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        torch.save(weights, folder / "weights.dat")
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        index = {"metadata": {}, "weight_map": {name: names(name) for name in weights}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


def named(**fields: object) -> Change:
    return lambda folder: edit(folder / "config.json", **fields)


WEIGHTS = {
    "a pickle in the index": (
        sharded(lambda name: "weights.dat"),
        'model.safetensors.index.json names "weights.dat"',
    ),
    "a way out in the index": (
        sharded(lambda name: "../model/part.safetensors"),
        'model.safetensors.index.json names "../model/part.safetensors"',
    ),
    "an absolute path in the index": (
        sharded(lambda name: "/x.safetensors"),
        'names "/x.safetensors"',
    ),
    "a pickle in the config": (
        named(transformers_weights="adapter_model.bin"),
        'config.json names "adapter_model.bin"',
    ),
    "a way out in the config": (
        named(transformers_weights="../x.safetensors"),
        'config.json names "../x.safetensors"',
    ),
    "an adapter": (
        lambda folder: edit(folder / "adapter_config.json", peft_type="LORA"),
        "adapter_config.json makes it an",
    ),
    "kernels of the hub": (
        named(attn_implementation="owner/kernels"),
        "attn_implementation: owner/kernels",
    ),
}


@pytest.mark.parametrize(("change", "words"), WEIGHTS.values(), ids=WEIGHTS)
def test_weights_and_kernels_from_elsewhere_are_refused(
    folder: Path, change: Change, words: str
) -> None:
    change(folder)
    for call in (sources.check, loading.load):
        assert words in refusal(str(folder), call)


CODE = """
from pathlib import Path

Path({canary!r}).touch()

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

class Config(LlamaConfig):
    model_type = "own"

class Model(LlamaForCausalLM):
    config_class = Config

class Words(PreTrainedTokenizerFast):
    pass
"""

MAP = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
ASKED = {
    "architecture": ("config.json", {"model_type": "own", "auto_map": MAP}),
    "code of another repository": (
        "config.json",
        {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "owner/code--own.Model"}},
    ),
    "tokenizer": (
        "tokenizer_config.json",
        {"tokenizer_class": "Words", "auto_map": {"AutoTokenizer": [None, "own.Words"]}},
    ),
}
NOT_NEEDED = {
    "architecture": ("config.json", {"auto_map": MAP}),
    "code of another repository": (
        "config.json",
        {"auto_map": {"AutoModelForCausalLM": "owner/code--own.Model"}},
    ),
    "tokenizer": (
        "tokenizer_config.json",
        {"auto_map": {"AutoTokenizer": [None, "own.Words"]}},
    ),
    "tokenizer by the config": (
        "config.json",
        {"auto_map": {"AutoTokenizer": ["own.Words", None]}},
    ),
}
"""Code that is asked for in place of a class that transformers has."""


@pytest.fixture
def yes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer yes to whatever is asked."""
    monkeypatch.setattr("builtins.input", lambda *words: "y")


@pytest.mark.parametrize(("file", "fields"), ASKED.values(), ids=ASKED)
def test_code_that_comes_with_a_model_is_never_run(
    folder: Path, canary: Path, yes: None, file: str, fields: dict[str, object]
) -> None:
    edit(folder / file, **fields)
    (folder / "own.py").write_text(CODE.format(canary=str(canary)))
    for call in (sources.check, loading.load, sources.layers, sources.parameters):
        assert f"{file} asks for code that comes with the model (auto_map: " in refusal(
            str(folder), call
        )
    assert not canary.exists()


@pytest.mark.parametrize(("file", "fields"), NOT_NEEDED.values(), ids=NOT_NEEDED)
def test_a_model_that_transformers_knows_is_loaded_without_its_code(
    folder: Path, canary: Path, yes: None, file: str, fields: dict[str, object]
) -> None:
    edit(folder / file, **fields)
    (folder / "own.py").write_text(CODE.format(canary=str(canary)))
    sources.check(str(folder))
    model = loading.load(folder)
    assert type(model.network) is LlamaForCausalLM
    assert model.tokenizer("ab")["input_ids"] == language_model.tiny().tokenizer("ab")["input_ids"]
    assert not canary.exists()


@pytest.mark.parametrize(("file", "fields"), ASKED.values(), ids=ASKED)
def test_nor_is_that_of_a_model_of_the_hub(
    folder: Path,
    canary: Path,
    yes: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    fields: dict[str, object],
) -> None:
    edit(folder / file, **fields)
    (folder / "own.py").write_text(CODE.format(canary=str(canary)))
    cached(folder, tmp_path / "hub", monkeypatch)
    for call in (loading.load, sources.layers, sources.parameters):
        assert f"{file} asks for code that comes with the model (auto_map: " in refusal(
            "owner/name", call
        )
    assert not canary.exists()


def test_a_model_of_the_hub_is_read_at_the_commit_that_was_looked_at(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(folder, tmp_path / "hub", monkeypatch)
    assert (
        loading.load("owner/name").parameters
        == sources.parameters("owner/name")
        == language_model.tiny().parameters
    )
    assert sources.located("owner/name", None) == ("owner/name", "a" * 40)


def test_a_branch_of_the_hub_that_moves_on_makes_another_trial(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(task="world", model="owner/name")
    cached(folder, tmp_path / "hub", monkeypatch)
    before = identify(trial)
    assert identify(overlay(trial, {"model": f"owner/name@{'a' * 40}"})) != before
    cached(folder, tmp_path / "hub", monkeypatch, commit="b" * 40)
    assert identify(trial).learned != before.learned
    assert sources.located("owner/name", None) == ("owner/name", "b" * 40)


def test_a_store_stays_with_the_commit_of_its_first_sweep(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(name="hub", base={"task": "world", "model": "owner/name"})
    store = Store(tmp_path / "store")
    cached(folder, tmp_path / "hub", monkeypatch)
    before = expand(sweep, store)
    decide(before, store)
    cached(folder, tmp_path / "hub", monkeypatch, commit="b" * 40)
    assert expand(sweep, store).identities == before.identities != expand(sweep).identities
    assert sources.located("owner/name", store) == ("owner/name", "a" * 40)
    # Nor does it ask the hub again: what was decided is read where nothing of the hub is left.
    shutil.rmtree(tmp_path / "hub")
    sources._settings.cache_clear()
    assert expand(sweep, store).identities == before.identities


def cached(
    folder: Path, hub: Path, monkeypatch: pytest.MonkeyPatch, commit: str = "a" * 40
) -> None:
    """Put the folder where the hub's "owner/name" lies once it is downloaded."""
    repository = hub / "models--owner--name"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    sources.parameters.cache_clear()
    sources._settings.cache_clear()


def test_a_folder_of_gguf_is_no_model(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.gguf")
    assert refusal(str(folder)) == f"{folder}: the model has no *.safetensors"
    (folder / "config.json").unlink()
    assert refusal(str(folder)) == f"{folder}: not a model folder, it has no config.json"


def test_an_adapter_names_its_model_and_what_to_do(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    edit(folder / "adapter_config.json", base_model_name_or_path="owner/base")
    assert refusal(str(folder)) == (
        f'{folder}: adapter_config.json makes it an adapter to "owner/base": merge the two '
        "(peft's merge_and_unload) and save the whole with its tokenizer"
    )


def test_the_output_of_a_trainer_names_its_last_checkpoint(folder: Path) -> None:
    output = folder.parent / "output"
    for step in (9, 10):
        shutil.copytree(folder, output / f"checkpoint-{step}")
    (output / "checkpoint-best").mkdir()
    assert refusal(str(output)).endswith(f"give {output}/checkpoint-10, its last checkpoint")
    sources.check(str(output / "checkpoint-10"))
    # A Trainer's checkpoint holds what it needs to go on; all of that is named at once.
    for name in ("training_args.bin", "optimizer.pt"):
        (output / "checkpoint-10" / name).write_bytes(b"PK")
    assert refusal(str(output / "checkpoint-10")) == (
        f"{output}/checkpoint-10: optimizer.pt, training_args.bin are pickles, which are not read: "
        "remove them from the folder"
    )


def test_a_file_is_no_model(folder: Path) -> None:
    assert "is a file; give the folder" in refusal(str(folder / "model.safetensors"))


def test_what_file_managers_leave_is_no_part_of_a_model(folder: Path) -> None:
    before = sources._hashes.__wrapped__(folder)
    for name in ("._model.safetensors", "._config.json", "._x.bin", ".DS_Store"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07")
    assert sources._hashes.__wrapped__(folder) == before
    assert loading.load(folder).parameters


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("musicgen", "MusicgenForCausalLM gives out audio"),
        ("gemma4_assistant", "Gemma4AssistantForCausalLM reads no token ids"),
    ],
)
def test_what_is_no_language_model_of_text_is_refused_by_its_config(
    folder: Path, kind: str, reason: str
) -> None:
    configuration(kind).save_pretrained(folder)
    for call in (loading.load, sources.parameters):
        message = refusal(str(folder), call)
        assert f'model "{folder}" is no language model of text: {reason}' in message
