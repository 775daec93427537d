"""Models load as they were saved, or are refused by name; their sizes are as stated."""

import importlib.metadata
import json
import shutil
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import pytest
import torch
from configurations import configuration
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from forget.errors import BadInput
from forget.models import catalogue, language_model, loading, pickled, sources
from forget.models.batches import reach
from forget.models.catalogue import MODELS
from forget.models.language_model import LanguageModel
from forget.preflight import expand
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial

TEXT = "Question: is it so?\nAnswer: yes"


def logits(model: LanguageModel, text: str = TEXT) -> torch.Tensor:
    ids = torch.tensor([model.tokenizer(text)["input_ids"]])
    with torch.no_grad():
        return model.network(ids).logits


def made(config: PretrainedConfig, seed: int = 0) -> LanguageModel:
    """Make a model of the architecture with random weights, over the bytes of the tiny one."""
    torch.manual_seed(seed)
    return LanguageModel(
        config.model_type,
        AutoModelForCausalLM.from_config(config).eval(),
        language_model.tiny().tokenizer,
    )


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return dict(model.network.named_parameters())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    language_model.save(language_model.tiny(), tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_loads_with_the_same_bits(folder: Path) -> None:
    before, after = loading.load("tiny"), loading.load(folder)
    assert weights(before).keys() == weights(after).keys()
    for name, weight in weights(after).items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, weights(before)[name]), name
    assert torch.equal(logits(before), logits(after))
    assert before.tokenizer(TEXT)["input_ids"] == after.tokenizer(TEXT)["input_ids"]


def test_bf16_is_what_a_bf16_folder_holds(tmp_path: Path) -> None:
    model = language_model.tiny()
    language_model.save(model, tmp_path / "half", torch.bfloat16)
    # The model in memory is as it was.
    assert all(
        torch.equal(weight, weights(language_model.tiny())[name])
        for name, weight in weights(model).items()
    )
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    # The head is the embedding: stored once.
    assert sum(tensor.numel() for tensor in stored.values()) == model.parameters
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "half").dtype == torch.bfloat16
    loaded = loading.load(tmp_path / "half")
    for name, weight in weights(loaded).items():
        assert torch.equal(weight, weights(model)[name].bfloat16().float()), name


def test_a_cut_model_is_the_first_layers_of_the_whole(tmp_path: Path) -> None:
    whole = language_model.tiny(layers=4)
    language_model.save(whole, tmp_path / "model")
    cut = loading.load(f"{tmp_path / 'model'}/3")
    assert cut.network.config.num_hidden_layers == 3
    ids = torch.tensor([whole.tokenizer(TEXT)["input_ids"]])
    with torch.no_grad():
        all_states = whole.network(ids, output_hidden_states=True).hidden_states
        states = cut.network(ids, output_hidden_states=True).hidden_states
    # The last hidden state comes after the last norm, in the cut model as in the whole one.
    for state, expected in zip(
        states, (*all_states[:3], whole.network.base_model.norm(all_states[3])), strict=True
    ):
        torch.testing.assert_close(state, expected, rtol=0, atol=1e-6)


def test_the_tiny_model_is_the_same_each_time() -> None:
    state = torch.random.get_rng_state()
    assert torch.equal(logits(loading.load("tiny")), logits(loading.load("tiny")))
    assert not torch.equal(logits(language_model.tiny()), logits(language_model.tiny(seed=1)))
    # Making it draws nothing from the caller's generator.
    assert torch.equal(torch.random.get_rng_state(), state)


def refusal(name: str, call: Callable[[str], object] = sources.check) -> str:
    with pytest.raises(BadInput) as error:
        call(name)
    said = str(error.value)
    assert "\n" not in said
    return said


def test_a_model_that_is_not_there_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    assert (
        refusal("gpt-2")
        == 'no model is named "gpt-2", nor is it a folder or a hub id "owner/name";'
        ' did you mean "gpt2"?'
    )
    assert (
        refusal("smollm2-135m/31")
        == 'model "smollm2-135m/31" asks for 31 layers, but "smollm2-135m" has 30'
    )
    assert refusal("tiny/0") == 'model "tiny/0" asks for 0 layers; a model has at least one'
    assert refusal("tiny/3", loading.load) == 'model "tiny/3" asks for 3 layers, but "tiny" has 2'
    assert (
        refusal(f"{folder}/3", loading.load)
        == f'model "{folder}/3" asks for 3 layers, but "{folder}" has 2'
    )
    assert refusal(str(tmp_path)) == f"{tmp_path}: not a model folder, it has no config.json"
    (folder / "model.safetensors").unlink()
    assert refusal(str(folder)) == f"{folder}: the model has no *.safetensors"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", b"{", "is not a valid JSON file"),
        ("config.json", b'{"model_type": "t5"}', "Unrecognized configuration class"),
        ("config.json", b'{"model_type": "unheard-of"}', "unheard-of"),
        ("model.safetensors", b"cut short", "header"),
        ("tokenizer.json", b"", ""),
    ],
)
def test_a_broken_folder_is_refused_in_one_sentence(
    folder: Path, file: str, content: bytes, words: str
) -> None:
    (folder / file).write_bytes(content)
    said = refusal(str(folder), loading.load)
    assert said.startswith(
        (f'model "{folder}" cannot be loaded: ', f"{folder / file}: not safetensors")
    )
    assert words in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda up: {},
            "its weights lack model.layers.1.mlp.up_proj.weight, in the shape of its config.json",
        ),
        (
            lambda up: {"weight": up.T.contiguous()},
            "its weights lack model.layers.1.mlp.up_proj.weight",
        ),
        (lambda up: {"weight": up.int()}, "model.layers.1.mlp.up_proj.weight is of type I32"),
        (lambda up: {"weight": up * torch.nan}, "its logits are not finite"),
    ],
    ids=["gone", "turned", "whole numbers", "not finite"],
)
def test_weights_that_are_not_what_they_should_be_are_refused(
    folder: Path, change: Callable[[torch.Tensor], dict[str, torch.Tensor]], words: str
) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj."
    tensors |= {
        f"{name}{key}": value for key, value in change(tensors.pop(f"{name}weight")).items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert words in refusal(str(folder), loading.load)


def test_a_tokenizer_of_more_words_than_the_model_has_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    small = made(
        LlamaConfig(**{**language_model.tiny().network.config.to_dict(), "vocab_size": 100})
    )
    language_model.save(small, tmp_path / "small")
    assert "its tokenizer knows 257 tokens, its embeddings 100" in refusal(
        str(tmp_path / "small"), loading.load
    )


def test_a_tokenizer_with_a_token_beyond_the_embeddings_is_refused(tmp_path: Path) -> None:
    model = language_model.tiny()
    model.tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    language_model.save(model, tmp_path / "padded")
    assert refusal(str(tmp_path / "padded"), loading.load) == (
        f'model "{tmp_path}/padded" cannot be loaded: its tokenizer knows 258 tokens, its '
        "embeddings 257, so that '[PAD]' has none: resize the model's embeddings "
        "(resize_token_embeddings) and save it"
    )


class _Hub(BaseHTTPRequestHandler):
    """A hub with one model, which is gated."""

    def do_GET(self) -> None:
        code, error = (403, "GatedRepo") if "/gated" in self.path else (404, "RepoNotFound")
        self.send_response(code)
        self.send_header("X-Error-Code", error)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815  the name that http.server calls

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_a_gated_model_is_refused_once_with_its_licence_and_the_token(
    quick: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = quick.model_dump() | {"model": "gpt2"}
    sweep = Sweep(name="study", base=base, axes={"seed": [0, 1]})
    with HTTPServer(("127.0.0.1", 0), _Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        gated, none = (refusal(f"owner/{x}", sources.fingerprint) for x in ("gated", "none"))
        # A sweep asks before it starts any trial, by the name that the hub has for the model.
        with pytest.raises(BadInput, match='the hub has no model "openai-community/gpt2"'):
            expand(sweep)
        hub.shutdown()
    assert "https://huggingface.co/owner/gated and set HF_TOKEN" in gated
    assert 'the hub has no model "owner/none", or it is private' in none
    # A hub that is away refuses nothing: whoever runs the trials may have the model.
    expand(sweep)


def test_without_a_network_a_hub_id_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources.check("owner/name/3@v1")

    def refuse(*args: object) -> None:
        pytest.fail("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for call in (loading.load, sources.layers, sources.parameters):
        assert 'model "owner/name" cannot be loaded: ' in refusal("owner/name@v1", call)


class _Converting(BaseHTTPRequestHandler):
    """A hub with a model of pickles, and a pull request with safetensors of some of them."""

    pickle_of: ClassVar[dict[str, str]] = {}
    """SHA-256 of the pickle by revision."""
    author = pickled.BOT

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def _answer(self) -> None:
        path = unquote(self.path.partition("?")[0])
        made = "2022-06-01T00:00:00.000Z"
        if path.endswith("/discussions"):
            request = {
                "num": 1,
                "title": "Adding `safetensors` variant of this model",
                "isPullRequest": True,
                "status": "open",
                "author": {"name": self.author},
                "createdAt": made,
                "repo": {"name": "owner/pickled", "type": "model"},
            }
            body: object = {"discussions": [request], "count": 1, "start": 0}
        elif "/commits/" in path:
            body = [{"id": "b" * 40, "title": "x", "message": "", "date": made, "authors": []}]
        elif "/paths-info/" in path:
            revision = path.rpartition("/")[2]
            lfs = {"oid": self.pickle_of[revision], "size": 9, "pointerSize": 1}
            body = [
                {"type": "file", "path": "pytorch_model.bin", "size": 9, "oid": "0", "lfs": lfs}
            ]
        else:
            body = [{"type": "file", "path": "pytorch_model.bin", "size": 9, "oid": "0"}]
        said = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("author", "converted", "taken"),
    [
        (pickled.BOT, "same", True),
        # Pickles that have changed since, and a request of whoever likes.
        (pickled.BOT, "other", False),
        ("stranger", "same", False),
    ],
)
def test_pickles_of_the_hub_are_read_as_the_safetensors_that_it_made_of_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    author: str,
    converted: str,
    taken: bool,
) -> None:
    (tmp_path / ("a" * 40)).mkdir()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_Converting, "author", author)
    monkeypatch.setattr(_Converting, "pickle_of", {"a" * 40: "same", "b" * 40: converted})
    with HTTPServer(("127.0.0.1", 0), _Converting) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{hub.server_port}"
        monkeypatch.setattr(pickled, "HfApi", lambda: HfApi(endpoint))
        commit = f"owner/pickled-{author}-{converted}", tmp_path / ("a" * 40)
        if taken:
            assert pickled.with_safetensors(*commit) == "b" * 40
        else:
            with pytest.raises(
                BadInput, match=r"pickles \(pytorch_model.bin\) are not read: convert"
            ):
                pickled.with_safetensors(*commit)
        hub.shutdown()


def test_a_quantised_model_is_refused_in_one_sentence(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    assert refusal(str(folder), loading.load) == (
        f'model "{folder}": its weights are quantised (gptq), and those are not trained: give the'
        " model that it was made from"
    )


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("owner/name@refs/pr/40", ("owner/name@refs/pr/40", 0)),
        ("owner/name@step1000", ("owner/name@step1000", 0)),
        ("owner/name/15@refs/pr/40", ("owner/name@refs/pr/40", 15)),
        ("owner/name/15", ("owner/name", 15)),
        ("smollm2-135m/15", ("smollm2-135m", 15)),
        ("/folder/of@someone/15", ("/folder/of@someone", 15)),
    ],
)
def test_a_depth_stands_before_a_revision(name: str, parts: tuple[str, int]) -> None:
    assert catalogue.parse(name) == parts


WRAPPERS = ("gemma3", "qwen3_5", "llama4")


@pytest.mark.parametrize("kind", WRAPPERS)
def test_of_a_model_that_sees_the_part_that_reads_is_loaded_cut_and_saved(
    kind: str, tmp_path: Path
) -> None:
    config = configuration(kind)
    torch.manual_seed(0)
    whole = LanguageModel(
        kind,
        AutoModelForImageTextToText.from_config(config).eval(),
        language_model.tiny().tokenizer,
    )
    whole.network.save_pretrained(tmp_path / "whole")
    whole.tokenizer.save_pretrained(tmp_path / "whole")
    assert sources.layers(str(tmp_path / "whole")) == 4
    loaded = loading.load(tmp_path / "whole")
    torch.testing.assert_close(logits(loaded), logits(whole), rtol=0, atol=1e-4)
    language_model.save(loaded, tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()
    torch.testing.assert_close(
        logits(LanguageModel(kind, again, whole.tokenizer)), logits(whole), rtol=0, atol=1e-4
    )
    cut = loading.load(f"{tmp_path / 'whole'}/2")
    assert cut.parameters == sources.parameters(f"{tmp_path / 'whole'}/2") < loaded.parameters


def test_what_is_no_cut_of_a_model_is_refused(tmp_path: Path) -> None:
    """The configuration of a decoder that stands alone still counts the blocks of its encoder."""
    language_model.save(made(configuration("bart")), tmp_path / "model")
    assert "cannot be cut: it has 4 blocks when it is told to have 2" in refusal(
        f"{tmp_path / 'model'}/2", loading.load
    )


def counted(config: PretrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def llama(
    vocabulary: int,
    width: int,
    inner: int,
    layers: int,
    heads: int,
    key_heads: int,
    tied: bool = True,
) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        tie_word_embeddings=tied,
    )


def pythia(width: int, layers: int, vocabulary: int = 50304) -> GPTNeoXConfig:
    return GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=8,
        tie_word_embeddings=False,
    )


CONFIGS = {
    "smollm2-135m": llama(49152, 576, 1536, 30, 9, 3),
    "smollm2-135m-base": llama(49152, 576, 1536, 30, 9, 3),
    "smollm2-360m": llama(49152, 960, 2560, 32, 15, 5),
    "smollm2-1.7b": llama(49152, 2048, 8192, 24, 32, 32),
    "llama-2-7b": llama(32000, 4096, 11008, 32, 32, 32, tied=False),
    "gpt-j-6b": GPTJConfig(),
    "gpt2": GPT2Config(),
    "pythia-70m": pythia(512, 6),
    "pythia-160m": pythia(768, 12),
    "pythia-410m": pythia(1024, 24),
    "pythia-1b": pythia(2048, 16),
    "pythia-1.4b": pythia(2048, 24),
    "pythia-2.8b": pythia(2560, 32),
    "pythia-6.9b": pythia(4096, 32, 50432),
}
"""The architectures as their authors publish them."""


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_named_model_is_as_large_as_its_entry_says(name: str) -> None:
    config = CONFIGS.get(name) or language_model.tiny().network.config
    entry = MODELS[name]
    assert entry.layers == sources.layers(name) == config.num_hidden_layers
    assert (
        entry.parameters
        == sources.parameters(name)
        == sum(p.numel() for p in counted(config).parameters())
    )
    config = type(config)(**{**config.to_dict(), "num_hidden_layers": 1, "n_layer": 1})
    assert sources.parameters(f"{name}/1") == sum(p.numel() for p in counted(config).parameters())


def test_a_folder_is_as_large_as_its_model(folder: Path) -> None:
    for name in (str(folder), f"{folder}/1", "tiny", "tiny/1"):
        model = loading.load(name)
        assert sources.parameters(name) == model.parameters
        assert sources.layers(name) == model.network.config.num_hidden_layers
        assert sources.reads(name) == reach(model.network) == 1024
    assert sources.parameters("tiny/1") < sources.parameters("tiny")


def test_the_fingerprint_is_that_of_the_weights(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert sources.fingerprint(str(folder)) == sources.fingerprint(str(tmp_path / "copy"))
    language_model.save(language_model.tiny(seed=1), tmp_path / "other")
    names = [
        str(folder),
        str(tmp_path / "other"),
        f"{folder}/1",
        "tiny",
        "tiny/1",
        "gpt2",
        "gpt2/6",
        "owner/name",
        "owner/name@v1",
    ]
    assert len({sources.fingerprint(name) for name in names}) == len(names)


def test_trials_that_were_wrong_before_have_other_names_and_no_others(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())

    def mended(**fields: object) -> list[str]:
        (folder / "config.json").write_text(json.dumps({**config, **fields}))
        return sources._mended(folder)

    assert mended() == mended(sliding_window=64) == mended(model_type="gemma2") == []
    assert mended(model_type="deepseek_v4") == ["exact"]
    assert mended(rope_scaling={"type": "longrope"}) == ["exact"]


@pytest.mark.parametrize("file", ["vocab.txt", "merges.txt", "tokenizer.model", "config.json"])
def test_the_fingerprint_changes_with_what_reads_the_text(
    folder: Path, tmp_path: Path, file: str
) -> None:
    shutil.copytree(folder, tmp_path / "other")
    with (tmp_path / "other" / file).open("a") as stream:
        stream.write("\n")
    assert sources.fingerprint(str(folder)) != sources.fingerprint(str(tmp_path / "other"))


def test_another_version_of_a_wheel_is_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprints = set()
    for version in ("0.1.2", "0.1.3"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, to=version: to)
        fingerprints.add(sources.fingerprint("smollm2-135m"))
    assert len(fingerprints) == 2


def test_precision_is_what_was_asked_for() -> None:
    assert catalogue.in_bf16("bf16")
    assert not catalogue.in_bf16("fp32")


@pytest.mark.slow
def test_the_model_that_comes_as_a_wheel_is_as_large_as_said_and_knows_something() -> None:
    model = loading.load("smollm2-135m")
    assert model.parameters == sources.parameters("smollm2-135m")
    assert model.network.config.num_hidden_layers == sources.layers("smollm2-135m")
    assert sources.reads("smollm2-135m") == reach(model.network)
    answer = logits(model, "The capital of France is")[0, -1].argmax()
    assert model.tokenizer.decode(answer) == " Paris"
    cut = loading.load("smollm2-135m/15")
    assert cut.parameters == sources.parameters("smollm2-135m/15")
