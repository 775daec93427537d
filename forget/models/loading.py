"""Loading of models, as those whose answers are computed side by side."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from forget.errors import BadInput, shown
from forget.models import checking, devices
from forget.models.catalogue import MODELS, parse
from forget.models.language_model import LanguageModel, quiet, tiny
from forget.models.sharding import shard
from forget.models.sources import (
    blocks,
    check,
    config_of,
    cut,
    fingerprint,
    located,
    understandable,
    with_what_is_here,
)
from forget.settings.identity import digest
from forget.storage.store import Store


def load(
    name: str | Path,
    store: Store | None = None,
    device: torch.device | str | None = None,
    sharded: bool = False,
    trained_from: str = "",
) -> LanguageModel:
    """Load a model with fp32 weights.

    Args:
        name: one of `forget models`, a hub id, or a folder; "/15" at its end keeps 15 layers.
        store: keeps a model that had to be converted, so that it loads in a second the next time.
        device: by default the GPU where there is one.
        sharded: leave each process of the trial its share of the model; they load it together.
        trained_from: name of the model whose training gave these weights. It is computed in the way
            that was found for that one, as it is where it stays in memory.

    Raises:
        BadInput: unknown name, a missing wheel, a folder that is not read (forget.models.vetting),
            too few layers, no network, or a model of which no way of computing answers gives what
            its own forward pass does (forget.models.checking).
    """
    check(str(name))
    stem, depth = parse(str(name))
    entry = MODELS.get(stem)
    if entry and entry.source == "random":
        model = tiny(layers=depth or 2)
    else:
        model = _read(str(name), stem, depth, store)
    model.network.requires_grad_(True).eval()
    if not sharded:
        where = torch.device(device or devices.device())
        model.network.to(where)  # type: ignore[arg-type]
    key = _key(trained_from or str(name), store, model.device)
    earlier = store.decided(key) if store and key else None
    checking.settle(model, depth, earlier)
    if store and key and not (earlier or trained_from) and store.read_only() is None:
        store.decide(key, checking.found(model))
    if sharded:
        shard(model.answers)
    return model


def _key(name: str, store: Store | None, device: torch.device) -> str:
    """Return the name under which a store keeps how a model is computed; empty where it does not.

    It names all that may change that. Folders are tried each time, since to read them whole would
    take as long, and a random model takes no time.
    """
    stem, _ = parse(name)
    entry = MODELS.get(stem)
    if os.path.isdir(stem) or (entry and entry.source == "random"):
        return ""
    versions = (torch.__version__, transformers.__version__, checking.TRIED)
    machine = (device.type, torch.backends.cpu.get_cpu_capability())
    return f"ways/{digest([fingerprint(name, store), versions, machine])}"


def _read(name: str, stem: str, depth: int, store: Store | None) -> LanguageModel:
    """Read a model and its tokenizer from where they lie.

    Args:
        name: the model's, with its depth.
        stem: the model's, without.
        depth: how many of its layers are kept; 0 for all.
        store: keeps a model that had to be converted.
    """
    source, revision = located(stem, store)
    config = config_of(source, revision)
    if depth > blocks(config):
        raise BadInput(f'model "{name}" asks for {depth} layers, but "{stem}" has {blocks(config)}')
    cut(config, depth)
    read: Any = partial(
        AutoModelForCausalLM.from_pretrained,
        source,
        revision=revision,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    with understandable(stem, "weights"), quiet():
        network, report = with_what_is_here(config, lambda part: read(config=part))
    # transformers would go on with random numbers in the place of what is missing.
    mismatched = [key for key, *_ in report["mismatched_keys"]]
    if missing := sorted({*report["missing_keys"], *mismatched}):
        more = f" and {len(missing) - 1} more" * (len(missing) > 1)
        raise BadInput(
            f'model "{stem}" cannot be loaded: its weights lack {missing[0]}{more}, in the shape of'
            " its config.json"
        )
    with understandable(stem, "tokenizer"), quiet():
        tokenizer = AutoTokenizer.from_pretrained(
            source, revision=revision, trust_remote_code=False
        )
    # A saved model should not tell where this one was read.
    for note in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(note, None)
    rows = network.get_input_embeddings().weight.shape[0]
    vocabulary = tokenizer.get_vocab()
    if beyond := sorted((id, token) for token, id in vocabulary.items() if id >= rows):
        raise BadInput(
            f'model "{stem}" cannot be loaded: its tokenizer knows {len(vocabulary)} tokens,'
            f" its embeddings {rows}, so that {shown(beyond[0][1])} has none: "
            "resize the model's embeddings (resize_token_embeddings) and save it"
        )
    return LanguageModel(name, network, tokenizer)
