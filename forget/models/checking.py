"""The choice of the way in which a model's answers are computed: the first that changes no number.

It is made by trying. A few examples are laid out in each way and compared with the plain forward
pass of transformers, one option a row. Where a length decides (a window, positions that are scaled
beyond a length, a choice of the best so many tokens), only texts of that length tell: so a model
that is given a longer text than it was tried on is tried again, on texts as long.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

from forget.errors import BadInput
from forget.models.batches import Encoded, reach
from forget.models.kernels import quicken
from forget.models.language_model import LanguageModel, quiet
from forget.models.ways import EQUAL, PACKED, ROWS, WAYS, WINDOWS, Way, has_windows

TRIED = 128
"""Tokens of the longest text that a model is tried on when it is loaded."""

SPARE = 32
"""Tokens of a probe batch beside its longest text."""

SCORED = 32
"""Last tokens of an option that are compared, at most."""

TOLERANCE = 5e-5
"""Nats by which a token's log-probability may differ, for each nat of the largest."""

Found = list[torch.Tensor]
"""Log-probabilities [tokens of an option, vocabulary] by option, of what predicts each token."""


@dataclass
class Choice:
    """Result of trying a model."""

    ways: dict[int, Way] = field(default_factory=dict)
    """Way by the tokens of the longest text that it was tried on."""
    reasons: dict[int, list[str]] = field(default_factory=dict)
    """By the same, what is wrong with each faster way."""
    stateless: str = ""
    """Why no hidden states can be read; empty where they can."""
    quick: bool = True
    """True where faster kernels change no number."""
    in_bf16: set[str] = field(default_factory=set)
    """Names of the ways that were run in bf16."""


class Inexact(Exception):
    """A way that gives other numbers than the plain forward pass, and by how much."""


def size(longest: int, most: int) -> int:
    """Return how long the texts are that a model is tried on: a power of two from `TRIED` on.

    Args:
        longest: tokens of the longest text that it is given.
        most: tokens that it reads.
    """
    return min(most, max(TRIED, 2 ** (longest - 1).bit_length()))


def examples(model: LanguageModel, length: int) -> list[Encoded]:
    """Return a probe batch: four and two options of several lengths, the longest last.

    The last one's first option is long, so that its second one lies far from their prompt in the
    row, though it follows it.
    """
    config = model.network.config.get_text_config()
    embedding: Any = model.network.get_input_embeddings()
    rows = embedding.weight.shape[0]
    # Marks, and what stands for an image, may be treated in ways of their own.
    special = set(model.tokenizer.all_special_ids) | _placeholders(model.network.config)
    most = min(rows, getattr(config, "vocab_size", rows))
    usual = sorted(id for id in model.tokenizer.get_vocab().values() if id < most)
    usual = [id for id in usual if id not in special] or list(range(min(4, rows - 1), rows))
    draw = torch.Generator().manual_seed(0)

    def some(n: int) -> list[int]:
        return [usual[i] for i in torch.randint(len(usual), (n,), generator=draw).tolist()]

    # All of them fit into one row that the model reads, even where it counts on through the row:
    # positions beyond a table would end a GPU's process.
    length = max(8, min(length, reach(model.network) - SPARE))
    made = []
    for prompt, options in ((9, (2, 1, 4, 3)), (5, (max(1, length - 5), 3))):
        scored = [min(n, SCORED) for n in options]
        made.append(Encoded(some(prompt), [some(n) for n in options], scored))
    return made


def _placeholders(config: PretrainedConfig) -> set[int]:
    """Return the token ids that a configuration names, e.g. those that stand for an image."""
    named = set()
    for one in (config, config.get_text_config()):
        for name, value in one.to_dict().items():
            if name.endswith(("_token_id", "_token_index")) and isinstance(value, int):
                named.add(value)
    return named


def plain(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    """Return the network's own logits [tokens, vocabulary] of one text."""
    takes = inspect.signature(model.network.forward).parameters
    inputs = {"use_cache": False} if "use_cache" in takes else {}
    logits: torch.Tensor = model.network(torch.tensor([ids], device=model.device), **inputs).logits
    return logits[0]


def plainly(model: LanguageModel, encoded: Sequence[Encoded]) -> Found:
    """Return what the network's own forward gives for each option, a text at a time.

    Raises:
        BadInput: the network does not run, its logits are not finite, or they are no probabilities
            of the next token since tokens after it change them.
    """
    refused = f'model "{model.name}" is not supported: '
    found = []
    with torch.no_grad():
        try:
            for unit in ROWS.units(encoded):
                text = unit.prompt + unit.options[0]
                found.append(_scored(plain(model, text), unit))
            other = next((id for id in text if id != text[-1]), text[-1] ^ 1)
            changed = _scored(plain(model, [*text[:-1], other]), unit)
        except torch.OutOfMemoryError:
            # A RuntimeError too, and no word about the model.
            raise
        except Exception as error:  # an architecture may raise whatever it likes
            raise BadInput(f"{refused}its forward pass fails ({_first_line(error)})") from error
    if not all(part.isfinite().all() for part in found):
        raise BadInput(f"{refused}its logits are not finite")
    try:
        _compare([changed], found[-1:])
    except Inexact as error:
        raise BadInput(
            f"{refused}a token's logits change with the tokens after it ({error}), so they are no"
            " probabilities of it"
        ) from None
    return found


def _scored(logits: torch.Tensor, unit: Encoded) -> torch.Tensor:
    """Return the log-probabilities that predict a unit's scored tokens, of logits of its text."""
    return logits[-1 - unit.scored[0] : -1].float().log_softmax(-1).cpu()


def settle(model: LanguageModel, depth: int, earlier: str | None = None) -> None:
    """Find the way of a model that was just loaded, with faster kernels where they change nothing.

    Args:
        model: on its device; its answers get what was found.
        depth: how many of its blocks were to be kept; 0 for all.
        earlier: what was found of the same model before (`found`).

    Raises:
        BadInput: no way gives what its own forward does, or it has other blocks than it should.
    """
    length = size(0, reach(model.network))
    encoded = examples(model, length)
    model.answers.unreached = _unreached(model, encoded[0])
    model.answers.unfreeze()
    if earlier:
        _settle_as(model, length, json.loads(earlier))
        return
    expected = plainly(model, encoded)
    choice = model.answers.choice = Choice()
    if model.device.type == "cpu":
        undo = quicken(model.network)
        try:
            # As in training: some networks change in place what a kernel gave them.
            with torch.enable_grad():
                first = layouts(EQUAL, encoded)[0][:1]
                _compare(laid_out(model, EQUAL, first), expected[:1])
            choose(model, choice, expected, length)
        except (BadInput, Inexact, RuntimeError, TypeError, ValueError, AttributeError):
            undo()
            choice.quick = False
    if not choice.ways:
        choose(model, choice, expected, length)
    states = _read_states(model, encoded[:1])
    if depth and states not in (0, depth + 1):
        raise BadInput(
            f'model "{model.name}" cannot be cut: it has {states - 1} blocks when it is told to'
            f" have {depth}"
        )


def found(model: LanguageModel) -> str:
    """Return what `settle` has found of a model, so that the next one need not try it."""
    choice = model.answers.choice
    assert choice
    ((length, way),) = choice.ways.items()
    return json.dumps(
        {
            "way": way.name,
            "reasons": choice.reasons[length],
            "stateless": choice.stateless,
            "quick": choice.quick,
            "layered": model.answers.layered,
        }
    )


def _settle_as(model: LanguageModel, length: int, earlier: dict[str, Any]) -> None:
    """Do as `settle` did before, by what was `found` then."""
    model.answers.choice = Choice(
        {length: WAYS[earlier["way"]]},
        {length: earlier["reasons"]},
        stateless=earlier["stateless"],
        quick=earlier["quick"],
    )
    model.answers.layered = earlier["layered"]
    if earlier["quick"] and model.device.type == "cpu":
        quicken(model.network)


@torch.no_grad()
def prepare(model: LanguageModel, encoded: Sequence[Encoded], bf16: bool) -> Way:
    """Return the way for some examples, tried on texts as long as theirs.

    All processes of a trial call it together. A model that was made, not loaded, is taken to be
    exact side by side.

    Args:
        model: in evaluation mode.
        encoded: the examples.
        bf16: they are to be computed in bfloat16.

    Raises:
        BadInput: there is none, or it does not run in bfloat16.
    """
    choice = model.answers.choice
    if choice is None:
        return PACKED
    length = size(max(one.longest for one in encoded), reach(model.network))
    if length not in choice.ways:
        probe = examples(model, length)
        with quiet():
            # The network's own forward; kernels were compared with it when it was loaded.
            expected = laid_out(model, EQUAL, layouts(EQUAL, probe)[0])
            choose(model, choice, expected, length)
    way = choice.ways[length]
    if bf16 and way.name not in choice.in_bf16:
        try:
            with model.autocast(True):
                for laid in layouts(way, examples(model, min(length, 32))):
                    laid_out(model, way, laid)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # an architecture may raise whatever it likes
            raise BadInput(
                f'model "{model.name}" does not run in bf16 ({_first_line(error)}):'
                ' precision = "fp32" does'
            ) from error
        choice.in_bf16.add(way.name)
    return way


def explained(model: LanguageModel) -> list[str]:
    """Return sentences that say how a loaded model is computed, why, and at what cost."""
    choice = model.answers.choice
    assert choice
    sentences = []
    for length, way in sorted(choice.ways.items()):
        faster = f"; no faster way is exact ({'; '.join(choice.reasons[length])})"
        why = faster if choice.reasons[length] else ""
        sentences.append(f"texts of up to {length} tokens are computed {way.name}: {way.cost}{why}")
    if reach(model.network) > max(choice.ways):
        sentences.append("longer texts are tried when they come")
    if choice.stateless:
        sentences.append(f"it gives no hidden states ({choice.stateless}), so it is not probed")
    return sentences


def check_states(model: LanguageModel) -> None:
    """Raise BadInput where no hidden states can be read of a model."""
    if (choice := model.answers.choice) and choice.stateless:
        raise BadInput(
            f'model "{model.name}" gives no hidden states by token ({choice.stateless}), so it'
            " cannot be probed: probe.examples = 0 leaves the probes out"
        )


@torch.no_grad()
def choose(model: LanguageModel, choice: Choice, expected: Found, length: int) -> None:
    """Find the way for texts of up to `length` tokens, and note it.

    Args:
        model: as it was loaded, or quickened since.
        choice: gets the way.
        expected: what its own forward gave (`plainly`).
        length: tokens of the longest text of `expected`.

    Raises:
        BadInput: there is none.
    """
    reasons = choice.reasons[length] = []
    for way in WAYS.values():
        if way is WINDOWS and not has_windows(model.network.config):
            continue
        try:
            for laid in layouts(way, examples(model, length)):
                _compare(laid_out(model, way, laid), expected)
        except torch.OutOfMemoryError:
            raise
        except Inexact as error:
            reasons.append(f"{way.name}: {error}")
        except Exception as error:  # whatever an architecture makes of a mask it does not take
            reasons.append(f"{way.name}: {_first_line(error)}")
        else:
            choice.ways[length] = way
            return
    raise BadInput(
        f'model "{model.name}" is not supported: its log-probabilities differ from those of its own'
        f" forward pass in every way ({'; '.join(reasons)})"
    )


def layouts(way: Way, encoded: Sequence[Encoded]) -> list[list[list[list[Encoded]]]]:
    """Return the probe batch as it may be laid out: batches of rows of units.

    Each layout holds all options in order: side by side where the way does so, and one a row as
    training may have them.
    """
    units = ROWS.units(encoded)
    if way is EQUAL:
        return [[[[unit]] for unit in units]]
    # A short text stands beside the long ones; the others need no such padding.
    one_a_row = [[[unit] for unit in units[:-3]], [[unit] for unit in units[-3:]]]
    return [[[list(encoded)]], one_a_row] if way.side_by_side else [one_a_row]


def laid_out(
    model: LanguageModel, way: Way, batches: Sequence[Sequence[Sequence[Encoded]]]
) -> Found:
    """Return what the model's answers give for each option of some batches, in order."""
    found: Found = []
    for rows in batches:
        batch = way.pack(rows, model.tokenizer.pad_token_id or 0).to(model.device)
        logits = model.answers(batch).detach().float().log_softmax(-1)[batch.predictor_of].cpu()
        found += logits.split(torch.bincount(batch.option).tolist())
    return found


def _unreached(model: LanguageModel, encoded: Encoded) -> list[nn.Parameter]:
    """Return the weights of parts that no text runs through, e.g. of a vision tower.

    A part is a child of the network or of the model inside it: an expert that this text was not
    sent to is none.
    """
    network = model.network
    if not network.config.sub_configs:
        return []
    reached: set[nn.Module] = set()

    def note(module: nn.Module, args: object) -> None:
        reached.add(module)

    hooks = [module.register_forward_pre_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            plain(model, encoded.prompt)
    finally:
        for hook in hooks:
            hook.remove()
    used: set[nn.Parameter] = set()
    for module in reached:
        used.update(module.parameters(recurse=False))
    idle = []
    for part in (*network.children(), *network.base_model.children()):
        if part is not network.get_output_embeddings() and reached.isdisjoint(part.modules()):
            idle += [weight for weight in part.parameters() if weight not in used]
    return idle


def _read_states(model: LanguageModel, encoded: Sequence[Encoded]) -> int:
    """Find out how hidden states are read, and return how many there are; 0 where there are none.

    They can be read as each block gets them where they are those that the network returns when it
    is asked to keep them all.
    """
    answers, choice = model.answers, model.answers.choice
    assert choice
    way = next(iter(choice.ways.values()))
    pad = model.tokenizer.pad_token_id or 0
    batch = way.pack([[unit] for unit in way.units(encoded)], pad).to(model.device)
    kept: list[torch.Tensor] = []
    tapped: list[torch.Tensor] = []
    answers.layered = False
    with torch.no_grad():
        try:
            answers(batch, kept.append)
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            choice.stateless = _first_line(error)
        if not kept:
            choice.stateless = choice.stateless or "its forward pass returns none"
            return 0
        answers.layered = True
        try:
            answers(batch, tapped.append)
        except (TypeError, ValueError, RuntimeError, KeyError):
            tapped.clear()
    answers.layered = len(kept) == len(tapped) and all(map(torch.equal, kept, tapped))
    return len(kept)


def _compare(found: Found, expected: Found) -> None:
    """Raise Inexact where log-probabilities differ by more than rounding."""
    for one, other in zip(found, expected, strict=True):
        if one.shape != other.shape:
            raise Inexact(f"logits of shape {list(one.shape)}, not {list(other.shape)}")
        differs = (one - other).abs().max().item()
        # NaN is no number below the bound either.
        if not differs <= TOLERANCE * max(1.0, other.abs().max().item()):
            raise Inexact(f"differs by {differs:.2g} nats")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
