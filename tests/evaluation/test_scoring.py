"""Packed scoring gives what the model itself gives, one option at a time."""

import random
from collections.abc import Callable

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen3Config,
)

from forget.errors import BadInput, OutOfMemory
from forget.evaluation.scoring import score
from forget.events import Event, StageStarted, Step
from forget.models import batches, language_model, memory
from forget.models.language_model import LanguageModel
from forget.tasks.task import Example

LLAMA_LIKE = {
    "vocab_size": 257,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
GPT_LIKE = {
    "vocab_size": 257,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
}

ARCHITECTURES = [
    LlamaConfig(**LLAMA_LIKE),
    GPT2Config(**GPT_LIKE),
    GPTJConfig(**GPT_LIKE, rotary_dim=4),
    GPTNeoXConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
    ),
    Qwen3Config(**LLAMA_LIKE, head_dim=8),
    MistralConfig(**LLAMA_LIKE, sliding_window=None),
]


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda config: config.model_type)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    """Return a model with random weights, large enough that every token sees its context.

    A wrong mask or position moves its scores.
    """
    config: PretrainedConfig = request.param
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return LanguageModel(config.model_type, network, language_model.tiny().tokenizer)


def examples() -> list[Example]:
    """Return examples with short and long prompts and two to four options, some with a suffix.

    Options are of one and of many tokens.
    """
    draw = random.Random("examples")

    def words(n: int) -> str:
        return " ".join("".join(draw.choices("abcdefgh", k=draw.randrange(1, 6))) for _ in range(n))

    made = [
        Example("letter", "Q", ("a", "b"), 0),
        Example("suffix", "The cup is in", (" a bag", " it"), 1, suffix=" so it moved."),
    ]
    for i in range(10):
        options = tuple(f" {words(draw.randrange(1, 4))}" for _ in range(2 + i % 3))
        made.append(
            Example(
                f"e{i}",
                words(draw.randrange(1, 12)),
                options,
                0,
                suffix=f" {words(2)}" if i % 4 == 3 else "",
            )
        )
    return made


def plainly(model: LanguageModel, example: Example, option: str) -> tuple[float, torch.Tensor, int]:
    """Run the model's own forward.

    Return the log-probability of what is scored, the states [layers, tokens, width] and the length
    of the prompt.
    """
    read = model.tokenizer
    ids = read(example.prompt + option + example.suffix)["input_ids"]
    first = len(read(example.prompt + (option if example.suffix else ""))["input_ids"])
    with torch.no_grad():
        out = model.network(torch.tensor([ids]), output_hidden_states=True)
    logprobs = out.logits[0].double().log_softmax(-1)
    total = sum(logprobs[i - 1, ids[i]].item() for i in range(first, len(ids)))
    return (
        total,
        torch.stack([state[0] for state in out.hidden_states]),
        len(read(example.prompt)["input_ids"]),
    )


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Assert that numbers are within 1e-5 of their size.

    Log-probabilities of long options sum to a hundred nats.
    """
    assert (actual - expected).abs().max() <= tolerance * expected.abs().clamp(min=1).max()


def test_scores_are_those_of_the_models_own_forward(model: LanguageModel) -> None:
    some = examples()
    found = score(model, some)
    for example, logprobs in zip(some, found.logprobs, strict=True):
        expected = [plainly(model, example, option)[0] for option in example.options]
        close(torch.tensor(logprobs), torch.tensor(expected))
    # The options of an example differ by far more than the tolerance.
    assert min(max(sums) - min(sums) for sums in found.logprobs) > 1e-3


@pytest.mark.parametrize("layered", [False, True], ids=["kept", "as each block gets them"])
def test_hidden_states_are_those_of_the_models_own_forward(
    model: LanguageModel, layered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = examples()
    monkeypatch.setattr(model.answers, "layered", layered)
    found = score(model, some, states=("first", "last", "mean"))
    first, last, mean = found.answers["first"], found.answers["last"], found.answers["mean"]
    options = []
    for number, example in enumerate(some):
        options += [(number, example, option) for option in example.options]
    assert len(options) == len(first) == len(last) == len(mean)
    for at, (number, example, option) in enumerate(options):
        _, states, prompt = plainly(model, example, option)
        close(first[at], states[:, prompt])
        close(last[at], states[:, -1])
        close(mean[at], states[:, prompt:].mean(1))
        close(found.questions[number], states[:, prompt - 1])


def test_neither_company_nor_order_changes_a_score(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = examples()
    together = score(model, some, states=("last",))
    shuffled = random.Random("order").sample(range(len(some)), len(some))
    alone = score(model, [some[i] for i in shuffled], states=("last",))
    for place, i in enumerate(shuffled):
        close(torch.tensor(alone.logprobs[place]), torch.tensor(together.logprobs[i]))
        close(alone.questions[place], together.questions[i])
    # One example a batch, so without padding.
    monkeypatch.setitem(memory.BUDGET["scoring"], "cpu", 1)
    for example, expected in zip(some, together.logprobs, strict=True):
        close(torch.tensor(score(model, [example]).logprobs[0]), torch.tensor(expected))
    close(score(model, some, states=("last",)).answers["last"], together.answers["last"])


def test_what_a_sum_is_divided_by() -> None:
    model = language_model.tiny()
    some = [Example("a", "Q", (" ab", " ñ"), 0), Example("b", "R", (" x", " yy"), 1, suffix=" end")]
    plain, by_token, by_byte = (
        score(model, some, normalise=kind) for kind in ("none", "tokens", "bytes")
    )  # type: ignore[arg-type]
    assert plain.logprobs == by_token.logprobs == by_byte.logprobs
    assert plain.lengths == [(1, 1), (1, 1)]
    # A byte is a token here; ñ has two. Of the second example the suffix is scored.
    assert by_token.lengths == by_byte.lengths == [(3, 3), (4, 4)]
    row = by_byte.rows(some, trial="t", phase="base", task="a", split="test")[0]
    assert (row.example, row.truth, row.lengths) == ("a", 0, (3, 3))
    assert row.logprobs == by_byte.logprobs[0]


def test_an_option_that_begins_with_another_adds_nothing_to_their_mass() -> None:
    example = Example("e", "Where?", (" Paris", " Paris, Texas", " Rome"), 0)
    (row,) = score(language_model.tiny(), [example]).rows(
        [example], trial="", phase="base", task="t", split="test"
    )
    assert row.weights == (1.0, 0.0, 1.0)
    assert row.logprobs[1] <= row.logprobs[0]


def test_of_a_suffix_the_mass_is_the_mean() -> None:
    example = Example("e", "Ann or Bea?", (" Ann", " Bea"), 0, suffix=" did.")
    assert score(language_model.tiny(), [example]).weights == [(0.5, 0.5)]


def test_without_states_none_are_kept() -> None:
    found = score(language_model.tiny(), examples())
    assert not found.answers
    assert found.questions.numel() == 0


def test_questions_can_be_read_without_answers() -> None:
    model, some = language_model.tiny(), examples()
    found = score(model, some, states=())
    assert not found.answers
    assert torch.equal(found.questions, score(model, some, states=("last",)).questions)


def test_half_precision_stays_near() -> None:
    model = language_model.tiny()
    some = examples()
    full, half = (
        score(model, some, states=("last",)),
        score(model, some, bf16=True, states=("last",)),
    )
    assert half.answers["last"].dtype == torch.float32
    # bf16 keeps 8 bits: 2^-8 of a log-probability of some ten tokens.
    for a, b in zip(full.logprobs, half.logprobs, strict=True):
        close(torch.tensor(b), torch.tensor(a), 2**-8)
    assert full.logprobs != half.logprobs


def test_what_does_not_fit_the_memory_is_scored_in_halves(
    device_of: Callable[[int], None],
) -> None:
    model, some = language_model.tiny(), examples()
    whole, halves = list[Event](), list[Event]()
    expected = score(model, some, states=("last",), observe=whole.append)
    longest = max(one.length for one in batches.encode(some, model.tokenizer, 1024))
    device_of(longest)
    found = score(model, some, states=("last",), observe=halves.append)
    for one, other in zip(found.logprobs, expected.logprobs, strict=True):
        close(torch.tensor(one), torch.tensor(other))
    close(found.answers["last"], expected.answers["last"])
    assert len(halves) == len(whole)
    device_of(longest - 1)
    with (
        pytest.raises(OutOfMemory, match=r"one example at a time.*lora.*shard = true"),
        memory.naming_cures(),
    ):
        score(model, some)


def test_every_batch_is_observed() -> None:
    seen: list[Event] = []
    score(language_model.tiny(), examples(), stage="look", observe=seen.append)
    begun, *steps = seen
    assert begun == StageStarted(stage="look", steps=len(steps))
    assert [step.step for step in steps if isinstance(step, Step)] == list(range(1, len(steps) + 1))
    assert all(isinstance(step, Step) and step.tokens > 0 and step.loss is None for step in steps)


def test_a_prompt_that_is_too_long_is_refused() -> None:
    with pytest.raises(
        BadInput, match="example long has 1025 tokens, but the model reads 1024 at most"
    ):
        score(language_model.tiny(), [Example("long", "x" * 1023, (" a", " b"), 0)])
    score(language_model.tiny(), [Example("fits", "x" * 1022, (" a", " b"), 0)])
