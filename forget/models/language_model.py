"""A causal language model with its tokenizer: run, saved, or made up for tests."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from forget.models.answers import Answers
from forget.models.sharding import is_sharded, whole


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with its tokenizer, in evaluation mode."""

    name: str
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @functools.cached_property
    def answers(self) -> Answers:
        """The one module that runs the network; a sharded model's weights are gathered in it."""
        return Answers(self.network)

    @property
    def sharded(self) -> bool:
        """True where several processes hold the model between them."""
        return is_sharded(self.answers)

    def autocast(self, bf16: bool) -> torch.autocast:
        """Return the region to run the model in.

        No bf16 copy of a sharded model's weights outlives its use.
        """
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=bf16, cache_enabled=not self.sharded
        )

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.network.device

    @property
    def parameters(self) -> int:
        """Number of parameters, tied weights counted once."""
        return sum(p.numel() for p in self.network.parameters())


def save(model: LanguageModel, folder: Path | None, dtype: torch.dtype = torch.float32) -> None:
    """Write a model as a plain Hugging Face folder; the one in memory keeps its weights.

    All processes of a trial call it together.

    Args:
        model: what is written, as safetensors.
        folder: where; None for the processes that only help to gather the weights.
        dtype: of the weights in the folder.
    """
    cast: dict[int, torch.Tensor] = {}
    weights = {}
    for name, weight in model.network.state_dict(keep_vars=True).items():
        # Tied weights stay one tensor, which is stored once.
        if id(weight) not in cast:
            cast[id(weight)] = whole(weight.detach()).to(dtype).cpu()
        weights[name] = cast[id(weight)]
    if folder is None:
        return
    with quiet():
        model.network.save_pretrained(folder, state_dict=weights)
    # save_pretrained notes the dtype of the model in memory, not of the weights it is given.
    config = openable(copy.deepcopy(model.network.config))
    config.dtype = dtype
    config.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def openable(config: PretrainedConfig) -> PretrainedConfig:
    """Return a configuration by which transformers finds the causal model that it is of.

    The text part of some models has no entry of its own; then it is that of the whole.
    """
    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return config
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        if CONFIG_MAPPING[kind].sub_configs.get("text_config") is type(config):
            whole: Any = CONFIG_MAPPING[kind]
            opened: PretrainedConfig = whole(text_config=config.to_dict())
            return opened
    return config


def tiny(layers: int = 2, seed: int = 0) -> LanguageModel:
    """Make a random Llama over bytes: every mechanism of a real model, in milliseconds."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(["<pad>", *letters])}
    core = Tokenizer(tokenizer_models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<pad>")
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LanguageModel("tiny", LlamaForCausalLM(config).eval(), tokenizer)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' bars, and its report of weights that a cut model leaves out."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
