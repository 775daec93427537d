"""Examples to tensors: the one place for tokens, padding, masks and answer positions.

An example's options share its prompt. They are packed into one sequence, `prompt option option …`,
where an option sees the prompt and itself but not its siblings and counts its positions from the
prompt's end, so the prompt is computed once. Short examples share a row of a batch where they fit
beside each other, neither seeing the other, so that little of it is padding.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from forget.errors import BadInput
from forget.tasks.task import Example

PROMPT = 0
"""Number of a prompt's segment of tokens; option i is segment i + 1; padding is -1."""

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
    """Number of an option's last tokens that are scored, by option: all, or those of the suffix."""

    @property
    def length(self) -> int:
        """Tokens of the prompt and all options."""
        return len(self.prompt) + sum(map(len, self.options))

    @property
    def longest(self) -> int:
        """Tokens of the prompt with its longest option: what the model has to reach over."""
        return len(self.prompt) + max(map(len, self.options))

    @property
    def extends(self) -> tuple[bool, ...]:
        """True for each option that begins with all the tokens of another one."""
        starts = set(map(tuple, self.options))
        found = []
        for option in self.options:
            begun = (tuple(option[:length]) in starts for length in range(1, len(option)))
            found.append(any(begun))
        return tuple(found)

    def only(self, option: int) -> Encoded:
        """Return the example with one of its options."""
        return Encoded(self.prompt, [self.options[option]], [self.scored[option]])


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed examples.

    B rows of at most L tokens hold E examples, with O options and T scored tokens among them.
    """

    ids: torch.Tensor
    """[B, L] token ids, padded on the right."""
    mask: torch.Tensor | None
    """[B, 1, L, L], true where a token (row) sees another (column); None where plain causal
    attention does.
    """
    positions: torch.Tensor
    """[B, L] from the start of each example."""
    predictors: torch.Tensor
    """[S, 2] (row, column) of the hidden states that predict scored tokens."""
    predictor_of: torch.Tensor
    """[T] index into `predictors` of the state that predicts a scored token."""
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
    way: str = "packed"
    """Name of the way in which the network is to see it (forget.models.ways)."""

    @property
    def tokens(self) -> int:
        """Tokens that are computed, padding included."""
        return self.ids.numel()

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        moved: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, torch.Tensor):
                value = value.to(device, non_blocking=True)
            moved[name] = value
        return Batch(**moved)


def encode(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, limit: int
) -> list[Encoded]:
    """Turn examples into token ids.

    The text of prompt and option is tokenised as one and cut where the prompt alone ends, as
    lm-evaluation-harness does. So are blanks at the prompt's end put in front of the options: a
    tokenizer joins them to the word that follows. Nothing is truncated.

    Args:
        examples: with their options.
        tokenizer: the model's.
        limit: tokens that the model reads at most.

    Raises:
        BadInput: an option or suffix without a token, two options that are the same tokens, a
            prompt whose tokens are not those of the whole text's beginning, or a sequence of more
            than `limit` tokens.
    """
    examples = [_joined_blanks(example) for example in examples]
    prompts = _tokenise(tokenizer, [example.prompt for example in examples])
    # All texts of a kind at once: a tokenizer's call costs more than its texts.
    stems: list[str] = []
    texts: list[str] = []
    for example in examples:
        stems += [example.prompt + option for option in example.options]
        texts += [example.prompt + option + example.suffix for option in example.options]
    stem_ids = _tokenise(tokenizer, stems)
    text_ids = stem_ids if texts == stems else _tokenise(tokenizer, texts)
    encoded = []
    at = 0
    for example, prompt in zip(examples, prompts, strict=True):
        span = slice(at, at + len(example.options))
        at = span.stop
        options = [ids[len(prompt) :] for ids in text_ids[span]]
        # With a suffix only its tokens are scored.
        before = [len(ids) if example.suffix else len(prompt) for ids in stem_ids[span]]
        pairs = zip(text_ids[span], before, strict=True)
        scored = [len(ids) - unscored for ids, unscored in pairs]
        if min(scored) < 1 or not prompt:
            raise BadInput(
                f"example {example.id}: its prompt, an option or the suffix has no token of its"
                f" own: {example.options}"
            )
        for text, stem, count in zip(text_ids[span], stem_ids[span], before, strict=True):
            if text[: len(prompt)] != prompt or text[:count] != stem[:count]:
                raise BadInput(
                    f"example {example.id}: the tokenizer joins the end of its prompt to an option,"
                    f" so neither is scored apart: {example.prompt[-20:]!r} and {example.options};"
                    " let the prompt end where a word does"
                )
        if same := _same(options):
            raise BadInput(
                f"example {example.id}: its options {example.options[same[0]]!r} and"
                f" {example.options[same[1]]!r} are the same tokens to the model's tokenizer"
                f" ({type(tokenizer).__name__}): leave the example out, or word them apart"
            )
        one = Encoded(prompt, options, scored)
        if one.longest > limit:
            raise BadInput(
                f"example {example.id} has {one.longest} tokens, but the model reads {limit} at"
                " most; leave it out"
            )
        encoded.append(one)
    return encoded


def _joined_blanks(example: Example) -> Example:
    """Return the example with the blanks at its prompt's end in front of its options."""
    prompt = example.prompt.rstrip()
    if prompt == example.prompt:
        return example
    blanks = example.prompt[len(prompt) :]
    options = tuple(blanks + option for option in example.options)
    return replace(example, prompt=prompt, options=options)


def _same(options: Sequence[list[int]]) -> tuple[int, int] | None:
    """Return the first two options that are the same tokens."""
    first: dict[tuple[int, ...], int] = {}
    for number, tokens in enumerate(options):
        if tuple(tokens) in first:
            return first[tuple(tokens)], number
        first[tuple(tokens)] = number
    return None


def reach(network: PreTrainedModel) -> int:
    """Return the tokens of the longest sequence that a model reads."""
    limits = [context(network.config)]
    for name, module in network.named_modules():
        # RoBERTa counts positions from behind the one of its padding.
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            limits.append(module.num_embeddings - module.padding_idx - 1)  # type: ignore[operator]
    return min(limits)


LIMITS = ("max_position_embeddings", "max_target_positions", "max_seq_len")
"""Names by which configurations give the positions that a model knows, `n_positions` among them."""


def context(config: PretrainedConfig) -> int:
    """Return the tokens of the longest sequence that a model of this configuration reads."""
    text = config.get_text_config()
    limits = (getattr(text, name, None) for name in LIMITS)
    # XLNet says -1 for none.
    return min((limit for limit in limits if limit and limit > 0), default=2**31)


def first_fit(lengths: Sequence[int], budget: int) -> Iterator[list[list[int]]]:
    """Put examples of like length into batches.

    A row of a batch is as wide as the batch's longest example and, up to `WIDE`, filled up with the
    longest others that fit (first-fit decreasing).

    Args:
        lengths: tokens of each example.
        budget: tokens of a batch, padding included; a longer example has a batch to itself.

    Yields:
        Batches: indices of examples by row.
    """
    # Shortest first, so that the longest is taken off the end; of equals the first comes first.
    rest = sorted(range(len(lengths)), key=lambda i: (lengths[i], -i))
    while rest:
        width = lengths[rest[-1]]
        rows: list[list[int]] = []
        # A batch: rows of this width while the budget lasts.
        while rest and (len(rows) + 1) * width <= max(budget, width):
            row: list[int] = []
            free = width
            # A row: the longest example that still fits, again and again.
            while fitting := bisect_right(rest, free, key=lengths.__getitem__):
                row.append(rest.pop(fitting - 1))
                free -= lengths[row[-1]]
                if width > WIDE:
                    break
            rows.append(row)
        yield rows


def rows_of(batch: Sequence[Sequence[int]], encoded: Sequence[Encoded]) -> list[list[Encoded]]:
    """Return the examples of a batch of `first_fit`, by row."""
    return [list(map(encoded.__getitem__, row)) for row in batch]


def pack(rows: Sequence[Sequence[Encoded]], pad: int, way: str = "packed") -> Batch:
    """Pack encoded examples into one batch, those of a row one after the other.

    Args:
        rows: the examples by row.
        pad: the token id of padding.
        way: name of the way in which the network is to see it (forget.models.ways).
    """
    shape = (len(rows), max(map(width, rows)))
    ids = torch.full(shape, pad)
    positions = torch.zeros(shape, dtype=torch.long)
    owners = torch.full(shape, -1)
    segments = torch.full(shape, -1)
    predictors: list[tuple[int, int]] = []
    predictor_of: list[int] = []
    targets: list[int] = []
    option: list[int] = []
    starts: list[tuple[int, int]] = []
    ends: list[tuple[int, int]] = []
    prompt_ends: list[tuple[int, int]] = []
    for row, examples in enumerate(rows):
        at = 0
        for owner, e in enumerate(examples):
            owners[row, at : at + e.length] = owner
            # The prompt, whose last state predicts each option's first token.
            span = slice(at, at + len(e.prompt))
            ids[row, span] = torch.tensor(e.prompt)
            positions[row, span] = torch.arange(len(e.prompt))
            segments[row, span] = PROMPT
            at = span.stop
            prompt_ends.append((row, at - 1))
            predictors.append((row, at - 1))
            of_first = len(predictors) - 1
            for number, (tokens, scored) in enumerate(zip(e.options, e.scored, strict=True)):
                # An option, whose positions go on from the prompt's end.
                span = slice(at, at + len(tokens))
                ids[row, span] = torch.tensor(tokens)
                positions[row, span] = torch.arange(len(e.prompt), len(e.prompt) + len(tokens))
                segments[row, span] = number + 1
                # Its scored tokens, each predicted by the state before it.
                for place in range(len(tokens) - scored, len(tokens)):
                    if place:
                        predictors.append((row, at + place - 1))
                    predictor_of.append(len(predictors) - 1 if place else of_first)
                    targets.append(tokens[place])
                    option.append(len(ends))
                starts.append((row, at))
                ends.append((row, span.stop - 1))
                at = span.stop
    single = all(len(examples) == 1 and len(examples[0].options) == 1 for examples in rows)
    return Batch(
        ids=ids,
        mask=None if single else _mask(owners, segments),
        positions=positions,
        predictors=torch.tensor(predictors),
        predictor_of=torch.tensor(predictor_of),
        targets=torch.tensor(targets),
        option=torch.tensor(option),
        ends=torch.tensor(ends),
        starts=torch.tensor(starts),
        prompt_ends=torch.tensor(prompt_ends),
        way=way,
    )


def width(row: Sequence[Encoded]) -> int:
    """Return the tokens of a row's examples."""
    return sum(example.length for example in row)


def _mask(owners: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """Let each token see its example's prompt and its own segment, up to itself.

    Padding sees something, too: a row that sees nothing gives NaN.
    """
    mine = owners[:, :, None] == owners[:, None, :]
    row, column = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool).tril()
    return ((column == PROMPT) | (column == row)).logical_and(mine).logical_and(causal)[:, None]


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Return the token ids of texts, without the marks that close them.

    Tokenizers that close a text would put their mark between prompt and option.
    """
    ids = tokenizer(texts, return_attention_mask=False)["input_ids"]
    closing = _closing(tokenizer)
    return [text[:-closing] for text in ids] if closing else ids


def _closing(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many marks a tokenizer puts behind a text.

    They are known by a letter that it reads with marks and without. One that knows no letters makes
    nothing of any, and is taken to close its texts where the end mark stands last.

    Raises:
        BadInput: the marks are not around the text, so that no option can be told from its prompt.
    """
    whole = tokenizer("a")["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    if not bare:
        return int(whole[-1:] == [tokenizer.eos_token_id])
    for before in range(len(whole) - len(bare) + 1):
        if whole[before : before + len(bare)] == bare:
            return len(whole) - len(bare) - before
    raise BadInput(
        f"the model's tokenizer ({type(tokenizer).__name__}) reads a text as {whole} and, without"
        f" its marks, as {bare}: it puts them within the text, so options are not told apart"
    )
