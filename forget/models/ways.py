"""The ways to lay examples out for a network, each exact for the networks that it is chosen for.

Options side by side share their prompt, which is fast. A network that looks back a window only gets
a mask for each type of layer. One option a row is what every causal network computes: recurrent
ones, those that add a bias by distance, and those that choose what they attend to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import PretrainedConfig, PreTrainedModel

from forget.models.batches import Batch, Encoded, first_fit, pack

Name = Literal["packed", "windows", "rows", "equal rows"]

Mask = torch.Tensor | BlockMask
"""Mask as an implementation of attention takes it."""


@dataclass(frozen=True)
class Way:
    """A way to lay examples out in batches."""

    name: Name
    cost: str
    """Its cost in words, for people."""

    @property
    def side_by_side(self) -> bool:
        """True where options share their prompt's row."""
        return self.name in ("packed", "windows")

    def units(self, encoded: Sequence[Encoded]) -> list[Encoded]:
        """Return what is laid out: whole examples, or one option of each at a time, in order."""
        if self.side_by_side:
            return list(encoded)
        units = []
        for one in encoded:
            units += [one.only(option) for option in range(len(one.options))]
        return units

    def plan(self, lengths: Sequence[int], budget: int) -> Iterator[list[list[int]]]:
        """Put units into batches of at most `budget` tokens, padding included.

        Args:
            lengths: tokens of each unit.
            budget: tokens of a batch; a longer unit has a batch to itself.

        Yields:
            Batches: indices of units by row.
        """
        if self.side_by_side:
            yield from first_fit(lengths, budget)
            return
        batch: list[list[int]] = []
        width = 0
        # Longest first: a batch is as wide as its first unit, and hardly any of it is padding.
        for unit in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
            parted = self.name == "equal rows" and lengths[unit] != width
            if batch and (parted or (len(batch) + 1) * width > budget):
                yield batch
                batch = []
            width = width if batch else lengths[unit]
            batch.append([unit])
        if batch:
            yield batch

    def pack(self, rows: Sequence[Sequence[Encoded]], pad: int) -> Batch:
        """Pack units into one batch, those of a row one after the other.

        Args:
            rows: the units by row.
            pad: the token id of padding.
        """
        return pack(rows, pad, self.name)

    def mask(
        self, batch: Batch, network: PreTrainedModel, implementation: str
    ) -> Mask | dict[str, Mask] | None:
        """Return a batch's attention mask as the network takes it.

        Args:
            batch: examples side by side; None where each row holds one option, since then the
                network's own masks do.
            network: has windows where its configuration says so.
            implementation: how it computes attention; sdpa takes a mask of truth values, flex
                attention one of blocks, others one that is added to the scores.
        """
        if batch.mask is None:
            return None
        if self.name == "packed":
            return _taken(batch.mask, implementation)
        by_type = {}
        config = network.config.get_text_config()
        for kind in _kinds(config):
            seen = batch.mask & _within(kind, config, batch.positions)[:, None]
            by_type[kind] = _taken(seen, implementation)
        return by_type if len(by_type) > 1 else next(iter(by_type.values()))


PACKED = Way("packed", "a prompt is computed once for all its options")
WINDOWS = Way("windows", "as packed, with a mask for each type of layer")
ROWS = Way("rows", "a prompt is computed once for each option")
EQUAL = Way("equal rows", "as rows, only texts of one length in a batch")

WAYS: dict[str, Way] = {way.name: way for way in (PACKED, WINDOWS, ROWS, EQUAL)}
"""All ways, fastest first."""


def has_windows(config: PretrainedConfig) -> bool:
    """Tell whether a configuration says that some layers look back so many tokens only."""
    text = config.get_text_config()
    return bool(_window(text) or _chunk(text))


def _kinds(config: PretrainedConfig) -> tuple[str, ...]:
    """Return the types of layers that have masks of their own, as transformers calls them."""
    if types := getattr(config, "layer_types", None):
        return tuple(dict.fromkeys(types))
    return ("sliding_attention",) if _window(config) else ("chunked_attention",)


def _window(config: PretrainedConfig) -> int | None:
    return getattr(config, "sliding_window", None)


def _chunk(config: PretrainedConfig) -> int | None:
    return getattr(config, "attention_chunk_size", None)


def _within(kind: str, config: PretrainedConfig, positions: torch.Tensor) -> torch.Tensor:
    """Return which tokens (column) a layer of a type reaches from which (row), [B, L, L]."""
    row, column = positions[:, :, None], positions[:, None, :]
    if "sliding" in kind and (window := _window(config)):
        return row - column < window
    if "chunked" in kind and (chunk := _chunk(config)):
        return row // chunk == column // chunk
    return torch.ones((), dtype=torch.bool, device=positions.device).expand(
        *positions.shape, positions.shape[1]
    )


def _taken(mask: torch.Tensor, implementation: str) -> Mask:
    """Return a mask of truth values as an implementation of attention takes it."""
    if implementation == "sdpa":
        return mask
    if implementation == "flex_attention":
        return _blocks(mask)
    least = torch.finfo(torch.float32).min
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, least)


def _blocks(mask: torch.Tensor) -> BlockMask:
    """Return a mask by blocks, of which flex attention passes over those where none sees another.

    Of a row of several examples these are most, and memory for its scores is never needed.
    """

    def seen(
        row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        return mask[row, 0, query, key]

    size, _, length, _ = mask.shape
    return create_block_mask(seen, size, None, length, length, device=mask.device)
