"""Examples to tensors: the one place for tokens, padding, masks and answer positions.

An example's options share its prompt. They are packed into one sequence, `prompt option option …`,
where an option sees the prompt and itself but not its siblings and counts its positions from the
prompt's end, so the prompt is computed once. Short examples share a row of a batch where they fit
beside each other, neither seeing the other, so that little of it is padding.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from forget.errors import BadInput
from forget.tasks.task import Example

PROMPT = 0
"""Segment of a prompt's tokens; option i is segment i + 1; padding is -1."""

WIDE = 1024
"""Tokens above which an example has its row alone: the mask that keeps two apart grows with the
square.
"""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as token ids."""

    prompt: list[int]
    options: list[list[int]]
    """Tokens after the prompt, by option, suffix included."""
    scored: list[int]
    """By option, how many of its last tokens are scored: all of them, or those of the suffix."""

    @property
    def length(self) -> int:
        return len(self.prompt) + sum(map(len, self.options))

    @property
    def longest(self) -> int:
        """Tokens of the prompt with its longest option: what the model has to reach over."""
        return len(self.prompt) + max(map(len, self.options))

    def only(self, option: int) -> Encoded:
        return Encoded(self.prompt, [self.options[option]], [self.scored[option]])


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed examples. B rows of at most L tokens hold E examples, with O options and T scored tokens among them."""

    ids: torch.Tensor
    """[B, L] token ids, padded on the right."""
    mask: torch.Tensor | None
    """[B, 1, L, L] True where a token (row) sees another (column); None where plain causal attention
    does.
    """
    positions: torch.Tensor
    """[B, L] from the start of each example."""
    sources: torch.Tensor
    """[S, 2] (row, column) of the hidden states that predict scored tokens."""
    source: torch.Tensor
    """[T] index into `sources`."""
    targets: torch.Tensor
    """[T] scored token ids."""
    option: torch.Tensor
    """[T] index of the option, over the whole batch, in order of example and option."""
    ends: torch.Tensor
    """[O, 2] (row, column) of each option's last token."""
    starts: torch.Tensor
    """[O, 2] (row, column) of each option's first token."""
    prompt_ends: torch.Tensor
    """[E, 2] (row, column) of each prompt's last token."""

    @property
    def tokens(self) -> int:
        """Computed, padding included."""
        return self.ids.numel()

    def to(self, device: torch.device) -> Batch:
        tensors = {name: getattr(self, name) for name in self.__slots__}
        moved: dict[str, Any] = {
            name: x if x is None else x.to(device, non_blocking=True) for name, x in tensors.items()
        }
        return Batch(**moved)


class Answers(nn.Module):
    """The model as far as answers need it: vocabulary logits at the positions that predict scored tokens, nowhere else."""

    def __init__(self, network: PreTrainedModel) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, batch: Batch, states: bool = False
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Logits [S, vocabulary] and, if asked for, the hidden states, [B, L, width] by layer."""
        mask = batch.mask
        if mask is not None and self.network.config._attn_implementation != "sdpa":
            # Other attention adds the mask to the scores (forget.models.kernels; architectures
            # without fused attention, as GPT-J).
            mask = torch.zeros(mask.shape, device=mask.device).masked_fill_(
                ~mask, torch.finfo(torch.float32).min
            )
        out = self.network.base_model(
            input_ids=batch.ids,
            attention_mask=mask,
            position_ids=batch.positions,
            use_cache=False,
            output_hidden_states=states,
        )
        hidden = out.last_hidden_state[batch.sources[:, 0], batch.sources[:, 1]]
        return self.network.get_output_embeddings()(hidden), out.hidden_states if states else ()


def encode(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, limit: int
) -> list[Encoded]:
    """Token ids of each example.

    The text of prompt and option is tokenised as one and cut where the prompt alone ends, as
    lm-evaluation-harness does.

    Raises:
        BadInput: an option or suffix without a token, or a sequence of more than `limit` tokens.
            Nothing is truncated.
    """
    prompts = _tokenise(tokenizer, [e.prompt for e in examples])
    stems = _tokenise(tokenizer, [e.prompt + option for e in examples for option in e.options])
    whole = (
        _tokenise(
            tokenizer, [e.prompt + option + e.suffix for e in examples for option in e.options]
        )
        if any(e.suffix for e in examples)
        else stems
    )
    encoded = []
    at = 0
    for example, prompt in zip(examples, prompts, strict=True):
        span = slice(at, at + len(example.options))
        at = span.stop
        options = [ids[len(prompt) :] for ids in whole[span]]
        scored = [
            len(ids) - len(stem) if example.suffix else len(ids) - len(prompt)
            for ids, stem in zip(whole[span], stems[span], strict=True)
        ]
        if min(scored) < 1 or not prompt:
            raise BadInput(
                f"example {example.id}: its prompt, an option or the suffix has no token of its own: {example.options}"
            )
        one = Encoded(prompt, options, scored)
        if one.longest > limit:
            raise BadInput(
                f"example {example.id} has {one.longest} tokens, but the model reads {limit} at most; leave it out"
            )
        encoded.append(one)
    return encoded


def reach(network: PreTrainedModel) -> int:
    """Tokens of the longest sequence the model reads; at most its sliding window, of which the masks of `pack` know nothing."""
    return context(network.config)


def context(config: PretrainedConfig) -> int:
    """The same by the model's configuration alone."""
    limits = (getattr(config, name, None) for name in ("max_position_embeddings", "sliding_window"))
    return min((limit for limit in limits if limit), default=2**31)


def plan(lengths: Sequence[int], budget: int) -> Iterator[list[list[int]]]:
    """Batches of examples of like length, each at most `budget` tokens with its padding (or one example): by batch and row,
    indices. A row is as wide as the batch's longest example and, up to `WIDE`, filled up with the longest others that fit.
    """
    rest = sorted(range(len(lengths)), key=lambda i: (lengths[i], -i))
    while rest:
        width = lengths[rest[-1]]
        rows: list[list[int]] = []
        while rest and (len(rows) + 1) * width <= max(budget, width):
            rows.append([])
            free = width
            while fit := bisect_right(rest, free, key=lengths.__getitem__):
                rows[-1].append(rest.pop(fit - 1))
                free = free - lengths[rows[-1][-1]] if width <= WIDE else 0
        yield rows


def pack(rows: Sequence[Sequence[Encoded]], pad: int) -> Batch:
    """Encoded examples as one batch, those of a row one after the other."""
    shape = (len(rows), max(sum(e.length for e in row) for row in rows))
    ids = torch.full(shape, pad)
    positions = torch.zeros(shape, dtype=torch.long)
    owners = torch.full(shape, -1)
    segments = torch.full(shape, -1)
    source: list[int] = []
    targets: list[int] = []
    option: list[int] = []
    sources: list[tuple[int, int]] = []
    starts: list[tuple[int, int]] = []
    ends: list[tuple[int, int]] = []
    prompt_ends: list[tuple[int, int]] = []
    for row, examples in enumerate(rows):
        at = 0
        for owner, e in enumerate(examples):
            owners[row, at : at + e.length] = owner
            span = slice(at, at + len(e.prompt))
            ids[row, span] = torch.tensor(e.prompt)
            positions[row, span] = torch.arange(len(e.prompt))
            segments[row, span] = PROMPT
            at = span.stop
            prompt_ends.append((row, at - 1))
            sources.append((row, at - 1))
            prompt_source = len(sources) - 1
            for number, (tokens, scored) in enumerate(zip(e.options, e.scored, strict=True)):
                span = slice(at, at + len(tokens))
                ids[row, span] = torch.tensor(tokens)
                positions[row, span] = torch.arange(len(e.prompt), len(e.prompt) + len(tokens))
                segments[row, span] = number + 1
                for place in range(len(tokens) - scored, len(tokens)):
                    if place:
                        sources.append((row, at + place - 1))
                    source.append(len(sources) - 1 if place else prompt_source)
                    targets.append(tokens[place])
                    option.append(len(ends))
                starts.append((row, at))
                ends.append((row, span.stop - 1))
                at = span.stop
    single = all(len(examples) == 1 and len(examples[0].options) == 1 for examples in rows)
    tensors = (
        torch.tensor(x) for x in (sources, source, targets, option, ends, starts, prompt_ends)
    )
    return Batch(ids, None if single else _mask(owners, segments), positions, *tensors)


def _mask(owners: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """Each token sees its example's prompt and its own segment, up to itself. Padding sees something too: a blind row gives
    NaN.
    """
    mine = owners[:, :, None] == owners[:, None, :]
    row, column = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool).tril()
    return ((column == PROMPT) | (column == row)).logical_and(mine).logical_and(causal)[:, None]


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    ids = tokenizer(texts, return_attention_mask=False)["input_ids"]
    # Tokenizers that close a text with an end mark would put it between prompt and option.
    end = tokenizer.eos_token_id
    # A tokenizer that knows no letters makes nothing of one.
    closes = bool(tokenizer("a")["input_ids"][-1:] == [end])
    return [x[:-1] for x in ids] if closes else ids
