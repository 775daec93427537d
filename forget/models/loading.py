"""Loading of models, as those whose answers are computed side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from forget.errors import BadInput, shown
from forget.models import devices
from forget.models.batches import Answers, Batch, Encoded, pack, reach
from forget.models.catalogue import MODELS, parse
from forget.models.kernels import quicken
from forget.models.language_model import LanguageModel, quiet, tiny
from forget.models.sharding import shard
from forget.models.sources import check, config_of, located, understandable
from forget.storage.store import Store


def load(
    name: str | Path,
    store: Store | None = None,
    device: torch.device | str | None = None,
    sharded: bool = False,
) -> LanguageModel:
    """Load a model with fp32 weights.

    Args:
        name: one of `forget models`, a hub id, or a folder; "/15" at its end keeps 15 layers.
        store: keeps a model that had to be converted, so that it loads in a second the next time.
        device: by default the GPU where there is one.
        sharded: leave each process of the trial its share of the model; they load it together.

    Raises:
        BadInput: unknown name, a missing wheel, a folder that is not read (forget.models.vetting),
            too few layers, no network, or a model whose answers cannot be computed side by side.
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
    own = _own(model)
    if model.device.type == "cpu":
        quicken(model.network)
    _check_answers(model, own)
    if sharded:
        shard(model.answers)
    return model


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
    if depth and depth > config.num_hidden_layers:
        raise BadInput(
            f'model "{name}" asks for {depth} layers, but "{stem}" has {config.num_hidden_layers}'
        )
    config.num_hidden_layers = depth or config.num_hidden_layers
    with understandable(stem, "weights"), quiet():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    network, report = loaded
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


def _own(model: LanguageModel) -> torch.Tensor:
    """Return the network's own logits of the two tokens that `_check_answers` has as an option."""
    with torch.no_grad():
        logits: torch.Tensor = model.network(torch.tensor([[1, 2, 4]], device=model.device)).logits
    return logits[0, 1:]


def _check_answers(model: LanguageModel, own: torch.Tensor) -> None:
    """Refuse a model whose answers, computed as we do, are not those of its own forward.

    Answers are head(backbone(x)) at a few positions, with an example's options side by side under
    one mask and other examples in the same row (forget.models.batches), by faster kernels
    (forget.models.kernels). Capped logits, an attention mask of its own, or a gate that only looks
    like the usual one make a model another.

    Args:
        model: as it was loaded.
        own: its own logits (`_own`).

    Raises:
        BadInput: the model is such a one.
    """
    network, device = model.network, model.device
    # The first option is long: the second one's prompt then lies outside the window of local
    # attention.
    long = [3] * min(300, reach(network) - 2)
    row = [Encoded([6], [[7]], [1]), Encoded([1, 2], [long, [4, 5]], [1, 2])]
    batch = pack([row], pad=0).to(device)
    refused = f'model "{model.name}" is not supported: '
    with torch.no_grad():
        try:
            logits, alike = _by_layer(model.answers, batch)
        except torch.OutOfMemoryError:
            # A RuntimeError too, and no word about the model.
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadInput(
                f"{refused}it does not take options side by side ({str(error).splitlines()[0]})"
            ) from error
    # Scored are the other example's token, the long option's last and both of the second's.
    if not (own.isfinite().all() and logits.isfinite().all()):
        raise BadInput(f"{refused}its logits are not finite")
    if (logits[batch.predictor_of[2:]] - own).abs().max() > 1e-3 * own.abs().max():
        raise BadInput(
            f"{refused}its logits differ from its head over its last hidden state, options side by"
            " side"
        )
    model.answers.layered = alike


def _by_layer(answers: Answers, batch: Batch) -> tuple[torch.Tensor, bool]:
    """Return a batch's logits, and whether its hidden states can be read as each block gets them.

    They can where they are those that the network returns when it is asked to keep them all.
    """
    kept: list[torch.Tensor] = []
    tapped: list[torch.Tensor] = []
    answers.layered = False
    logits = answers(batch, kept.append)
    answers.layered = True
    answers(batch, tapped.append)
    alike = len(kept) == len(tapped) and all(map(torch.equal, kept, tapped))
    return logits, alike
