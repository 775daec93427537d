"""Trials of every causal architecture of the installed transformers.

`make models` (`python -m tests.architectures`) tries them all and writes docs/models.md.
"""

from __future__ import annotations

import gc
import inspect
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    logging,
)

sys.path.insert(0, str(Path(__file__).parent))  # as pytest has it

from configurations import architectures, configuration, made

from forget.errors import BadInput
from forget.evaluation.scoring import score
from forget.models import language_model, loading, vetting
from forget.models.language_model import LanguageModel
from forget.models.ways import WAYS
from forget.settings.parts import Lora, Stage
from forget.tasks.labels import true
from forget.tasks.task import Example
from forget.training.loop import fine_tune
from forget.training.terms import Term

EXACT = 1e-4
"""Nats a token by which a log-probability may differ from the plain forward pass, in fp32."""

PAGE = Path(__file__).parents[1] / "docs" / "models.md"


@dataclass(frozen=True)
class Tried:
    """Outcome of trying an architecture."""

    kind: str
    parameters: int = 0
    way: str = ""
    why: str = ""
    """Why each faster way is not taken."""
    nats: float = math.nan
    """Largest difference of an option's log-probability to the plain forward pass, a token."""
    bf16: str = "no"
    trains: str = "no"
    lora: str = "no"
    saves: str = "no"
    refused: str = ""
    """The sentence with which it was refused."""
    foreign: bool = False
    """True where it was refused as no language model of text."""
    crashed: str = ""
    """Any other error than a refusal."""

    @property
    def exact(self) -> bool:
        """True where it was served, with the numbers of the plain forward pass."""
        return bool(self.way) and self.nats <= EXACT


def some() -> list[Example]:
    """Return examples of two and four options, with texts shorter and longer than the window."""
    return [
        Example("short", "Is it", (" so", " not"), 0),
        Example("four", "Where is the cup", (" here", " in a bag", " it", " there"), 2),
        Example("long", "The cup that was in the bag is now on a table", (" of wood", " in it"), 1),
        Example(
            "longer", "So it moved", (" from the bag over the table to the cupboard", " on"), 0
        ),
    ]


def expected(network: PreTrainedModel, read: PreTrainedTokenizerBase) -> list[list[float]]:
    """Return the log-probabilities of all options by plain forward passes, one option a row."""
    takes = inspect.signature(network.forward).parameters
    inputs = {"use_cache": False} if "use_cache" in takes else {}
    found = []
    for example in some():
        first = len(read(example.prompt)["input_ids"])
        sums = []
        for option in example.options:
            ids = read(example.prompt + option)["input_ids"]
            with torch.no_grad():
                logits = network(torch.tensor([ids]), **inputs).logits[0].double().log_softmax(-1)
            sums.append(sum(logits[i - 1, ids[i]].item() for i in range(first, len(ids))))
        found.append(sums)
    return found


def differs(found: Sequence[Sequence[float]], plain: Sequence[Sequence[float]]) -> float:
    """Return the largest difference of two sets of log-probabilities, a token of the option."""
    most = 0.0
    for example, ours, theirs in zip(some(), found, plain, strict=True):
        for option, one, other in zip(example.options, ours, theirs, strict=True):
            difference = abs(one - other) / len(option)
            most = math.inf if math.isnan(difference) else max(most, difference)
    return most


def attempt(kind: str, folder: Path) -> Tried:
    """Try an architecture by the real path: load, score, probe, train, adapt, save and load."""
    parted = False
    try:
        config = configuration(kind)
        try:
            vetting.check_text(kind, config)
        except BadInput as error:
            return Tried(kind, refused=str(error), foreign=True)
        try:
            network = made(config)
        except ImportError:
            # What sees needs a package that is not here.
            network, parted = made(config.get_text_config()), True
    except Exception as error:
        said = " ".join(str(error).split())
        return Tried(kind, refused=f"transformers does not make it: {said[:120]}")
    tokenizer = language_model.tiny().tokenizer
    try:
        language_model.save(LanguageModel(kind, network, tokenizer), folder / "first")
        if parted:
            _as_whole(folder / "first", config)
        # Where transformers' own forward pass fails, loading says so.
        with suppress(Exception):
            if not parted:
                # Some networks are not quite what they were, once they are saved and opened.
                network = AutoModelForCausalLM.from_pretrained(folder / "first").eval()
            plain = expected(network, tokenizer)
        model = loading.load(folder / "first", device="cpu")
        return _served(kind, model, plain, folder)
    except BadInput as error:
        return Tried(kind, refused=str(error).replace(str(folder / "first"), kind))
    except Exception as error:
        return Tried(kind, crashed=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _as_whole(folder: Path, config: PretrainedConfig) -> None:
    """Make the saved part that reads text a checkpoint of the whole, without its other weights."""
    weights = load_file(folder / "model.safetensors")
    named = {name.replace("model.", "model.language_model.", 1): w for name, w in weights.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)


def _served(kind: str, model: LanguageModel, plain: list[list[float]], folder: Path) -> Tried:
    """Score, train, adapt and save a model that was loaded."""
    choice = model.answers.choice
    assert choice
    (length,) = choice.ways
    states = None if choice.stateless else ("last",)
    nats = differs(score(model, some(), states=states).logprobs, plain)
    done = {"bf16": "yes", "trains": "yes", "lora": "yes", "saves": "yes"}

    def train(**settings: Any) -> None:
        labelled = true(some())
        before = [weight.clone() for weight in model.network.parameters()]
        fine_tune(
            model,
            [Term(lambda epoch: labelled)],
            Stage(epochs=1, batch=2, lr=1e-3),
            stage="learn",
            seed=0,
            **settings,
        )
        assert any(
            not torch.equal(a, b) for a, b in zip(before, model.network.parameters(), strict=True)
        )

    def stored() -> None:
        language_model.save(model, folder / "second")
        ours = differs(
            score(model, some()).logprobs,
            expected(
                AutoModelForCausalLM.from_pretrained(folder / "second").eval(), model.tokenizer
            ),
        )
        if not ours <= EXACT:
            raise BadInput(f"differs by {ours:.2g} nats")

    steps = {
        "bf16": lambda: score(model, some(), bf16=True),
        "trains": train,
        "lora": lambda: train(lora=Lora()),
        "saves": stored,
    }
    for name, step in steps.items():
        try:
            step()
        except Exception as error:
            said = " ".join(str(error).split()).replace(str(folder / "first"), kind)
            done[name] = said if isinstance(error, BadInput) else f"{type(error).__name__}: {said}"
    return Tried(
        kind,
        parameters=model.parameters,
        way=choice.ways[length].name,
        why="; ".join(choice.reasons[length]),
        nats=nats,
        **done,
    )


def main() -> None:
    """Try every architecture and write the page."""
    logging.set_verbosity_error()
    tried = []
    for kind in track(list(architectures()), "architectures", console=Console(stderr=True)):
        # Training collects garbage, which takes seconds where all of transformers is searched.
        gc.freeze()
        with tempfile.TemporaryDirectory() as folder, language_model.quiet():
            tried.append(attempt(kind, Path(folder)))
    PAGE.write_text(page(tried), encoding="utf-8")
    print(counts(tried))


def counts(tried: Sequence[Tried]) -> str:
    """Return how many came out how, in a sentence."""
    exact = [one for one in tried if one.exact]
    ways = Counter(one.way for one in exact)
    by_way = ", ".join(f"{ways[name]} {name}" for name in WAYS if ways[name])
    wrong = sum(bool(one.way) and not one.exact for one in tried)
    foreign = sum(one.foreign for one in tried)
    refused = sum(bool(one.refused) for one in tried) - foreign
    crashed = sum(bool(one.crashed) for one in tried)
    return (
        f"transformers has {len(tried)} causal architectures, of which {foreign} are no language"
        f" models of text. Of the other {len(tried) - foreign}, {len(exact)} are served and equal"
        f" ({by_way}); served and different: {wrong}, refused: {refused}, crashed: {crashed}."
    )


def page(tried: Sequence[Tried]) -> str:
    """Return the page of what was tried."""
    rows = []
    notes = []
    for one in tried:
        if one.way:
            trained, adapted, saved, half = (
                _mark(said) for said in (one.trains, one.lora, one.saves, one.bf16)
            )
            rows.append(
                f"| {one.kind} | {one.parameters:,} | {one.way} | {one.nats:.0e} | {half} |"
                f" {trained} | {adapted} | {saved} |"
            )
            for step in ("bf16", "trains", "lora", "saves"):
                if (said := getattr(one, step)) != "yes":
                    notes.append(f"- {one.kind}, {step}: {said}")
        else:
            outcome = "no text" if one.foreign else "refused"
            rows.append(f"| {one.kind} | | {outcome} | | | | | |")
    unserved = [one for one in tried if not one.way]
    refused = [f"- **{one.kind}**: {one.refused or one.crashed}" for one in unserved]
    return TEMPLATE.format(
        version=transformers.__version__,
        counts=counts(tried),
        rows="\n".join(rows),
        refused="\n".join(refused),
        notes="\n".join(notes) or "None.",
        ways="\n".join(f"- **{way.name}**: {way.cost}." for way in WAYS.values()),
    )


def _mark(said: str) -> str:
    return "yes" if said == "yes" else "no"


TEMPLATE = """# Models

Any causal language model that transformers opens is tried when it is loaded: a few examples are
laid out in each way below and compared with the plain forward pass of transformers, one option a
row. The first way that gives the same numbers is taken, and where none does the model is refused
with the difference. A model that is given longer texts than it was tried on is tried again on texts
as long. `forget models NAME` and `forget doctor --model NAME` say which way a model is computed in,
and why.

{ways}

## Architectures of transformers {version}

{counts}

Each row is a small random model: saved, loaded, scored and probed, trained, adapted by LoRA, saved
again and opened by transformers. "Nats" is the largest difference of an option's log-probability to
the plain forward pass, a token, in fp32. Settings make a model causal where its default is not
(`is_decoder` of BERT's family, `causal` of XLM, `attn_type` of XLNet). "No text" are models that
are never asked for the next token of a text alone: their class in transformers gives out something
else, or reads what another model makes of a text. `make models` writes this page.

| architecture | parameters | way | nats | bf16 | trains | LoRA | saved and opened |
|---|---|---|---|---|---|---|---|
{rows}

## Refused

{refused}

## What does not go with an architecture

{notes}
"""

if __name__ == "__main__":
    main()
