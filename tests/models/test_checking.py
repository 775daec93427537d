"""A model is computed in the fastest way that gives what its own forward pass gives, or refused."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from configurations import configuration, made
from transformers import (
    BertConfig,
    BloomConfig,
    Gemma2Config,
    GPTNeoConfig,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
)

from forget.errors import BadInput
from forget.evaluation.scoring import score
from forget.models import batches, checking, language_model, loading, sources
from forget.models.language_model import LanguageModel
from forget.models.ways import ROWS, WAYS, Way
from forget.settings.parts import Stage
from forget.storage.store import Store
from forget.tasks.labels import true
from forget.tasks.task import Example
from forget.training.loop import fine_tune
from forget.training.terms import Term

SMALL = {
    "vocab_size": 257,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 600,
}


def model_of(config: PretrainedConfig, head: float = 1) -> LanguageModel:
    """Make a model with random weights, settled as one that was loaded."""
    network = made(config)
    with torch.no_grad():
        # Logits of the size that trained models have: small ones are hardly capped.
        network.get_output_embeddings().weight.mul_(head)
    model = LanguageModel(config.model_type, network, language_model.tiny().tokenizer)
    checking.settle(model, 0)
    return model


def plainly(model: LanguageModel, example: Example) -> list[float]:
    """Return log-probabilities of the options by the network's own forward, an option at a time."""
    read = model.tokenizer
    first = len(read(example.prompt)["input_ids"])
    sums = []
    for option in example.options:
        ids = read(example.prompt + option)["input_ids"]
        with torch.no_grad():
            logits = model.network(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        sums.append(sum(logits[i - 1, ids[i]].item() for i in range(first, len(ids))))
    return sums


def words(n: int, seed: int = 0) -> str:
    draw = torch.Generator().manual_seed(seed)
    return "".join(chr(97 + i) for i in torch.randint(0, 26, (n,), generator=draw).tolist())


SOME = [
    Example("two", "Is it", (" so", " not"), 0),
    Example("four", "Where is the cup", (" here", " in a bag", " it", " there"), 2),
    Example("long", words(70), (" of wood", " in it"), 1),
    Example("far", "So it moved", (words(80, seed=1), " on"), 0),
]


def nearly(model: LanguageModel, examples: list[Example], tolerance: float = 1e-4) -> None:
    """Assert that scores are those of the plain forward pass, within nats a token."""
    for example, found in zip(examples, score(model, examples).logprobs, strict=True):
        for option, one, other in zip(example.options, found, plainly(model, example), strict=True):
            assert abs(one - other) <= tolerance * len(option), (example.id, option)


KINDS = [
    (LlamaConfig(**SMALL), "packed"),
    # Logits that are scaled, and a head of an encoder.
    (GraniteConfig(**SMALL, logits_scaling=3.0), "packed"),
    (BertConfig(**{**SMALL, "is_decoder": True}), "packed"),
    # A window, capped logits and layers of two types.
    (MistralConfig(**SMALL, sliding_window=16), "windows"),
    (Gemma2Config(**SMALL, head_dim=8, sliding_window=16), "windows"),
    # A window by the place in the row, a bias by distance, a state that goes from token to token.
    (
        GPTNeoConfig(
            vocab_size=257,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["local", "global"], 1]],
            window_size=16,
        ),
        "rows",
    ),
    (BloomConfig(vocab_size=257, hidden_size=32, n_layer=2, n_head=4), "rows"),
    (MambaConfig(vocab_size=257, hidden_size=32, num_hidden_layers=2), "rows"),
]


@pytest.mark.parametrize(
    ("config", "way"), KINDS, ids=lambda value: getattr(value, "model_type", "")
)
def test_the_fastest_exact_way_is_taken(config: PretrainedConfig, way: str) -> None:
    model = model_of(config, head=20)
    choice = model.answers.choice
    assert choice
    assert [found.name for found in choice.ways.values()] == [way]
    faster = list(WAYS)[: list(WAYS).index(way)]
    # The sentence says of each faster way why it is not taken.
    tried = [reason.partition(":")[0] for reason in choice.reasons[checking.TRIED]]
    assert set(tried) <= set(faster)
    assert ("packed" in tried) == (way != "packed")
    nearly(model, SOME)


def test_capped_logits_reach_the_scores() -> None:
    """Without the cap, log-probabilities are others by nats."""
    capped = model_of(Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=2.0), head=50)
    nearly(capped, SOME)
    found = score(capped, SOME).logprobs
    capped.network.config.final_logit_softcapping = None
    for example, sums in zip(SOME, found, strict=True):
        assert abs(plainly(capped, example)[0] - sums[0]) > 1


@pytest.mark.parametrize("way", ["rows", "equal rows"])
def test_rows_give_hidden_states_of_every_option_in_order(way: str) -> None:
    model = language_model.tiny()
    packed = score(model, SOME, states=("first", "last", "mean"))
    model.answers.choice = checking.Choice({checking.TRIED: WAYS[way]}, {checking.TRIED: []})
    rows = score(model, SOME, states=("first", "last", "mean"))
    for one, other in zip(rows.logprobs, packed.logprobs, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    for position in packed.answers:
        torch.testing.assert_close(rows.answers[position], packed.answers[position])
    torch.testing.assert_close(rows.questions, packed.questions)


@pytest.mark.parametrize(
    "config", [LlamaConfig(**SMALL), MistralConfig(**SMALL, sliding_window=16)]
)
def test_flex_attention_gives_the_scores_of_the_models_own(config: PretrainedConfig) -> None:
    model = model_of(config)
    expected = score(model, SOME).logprobs
    model.network.set_attn_implementation("flex_attention")
    # Uncompiled: what torch 2.13 makes of it for a CPU does not always compile.
    with torch.compiler.set_stance("force_eager"):
        found = score(model, SOME).logprobs
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_a_batch_of_rows_holds_texts_of_like_length_within_its_budget() -> None:
    lengths = [3, 9, 4, 9, 2, 9, 30]
    for way in (ROWS, WAYS["equal rows"]):
        plan = list(way.plan(lengths, 20))
        rows = list(chain.from_iterable(plan))
        assert sorted(chain.from_iterable(rows)) == list(range(7))
        for batch in plan:
            widths = [lengths[row[0]] for row in batch]
            assert len(batch) == 1 or len(batch) * max(widths) <= 20
            assert way is ROWS or len(set(widths)) == 1
    assert next(iter(ROWS.plan(lengths, 20))) == [[6]]


def test_a_length_that_decides_is_seen_when_it_comes() -> None:
    """Positions are scaled by other factors beyond 300 tokens, in all of the batch."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
    }
    config = Phi3Config(
        **SMALL, pad_token_id=0, original_max_position_embeddings=300, rope_parameters=rope
    )
    model = model_of(config)
    choice = model.answers.choice
    assert choice
    assert {length: way.name for length, way in choice.ways.items()} == {128: "packed"}
    nearly(model, SOME)
    longer = [*SOME, Example("beyond", words(330), (" of wood", " in it"), 1)]
    nearly(model, longer)
    assert choice.ways[512].name == "equal rows"
    assert choice.ways[128].name == "packed"
    assert "packed: differs by" in choice.reasons[512][0]


def test_layers_of_two_widths_are_read_as_wide_as_they_are() -> None:
    sizes = {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 16}
    model = model_of(OPTConfig(**sizes))
    nearly(model, SOME)
    found = score(model, SOME, states=("last",)).answers["last"]
    ids = model.tokenizer(SOME[0].prompt + SOME[0].options[0])["input_ids"]
    with torch.no_grad():
        states = model.network(torch.tensor([ids]), output_hidden_states=True).hidden_states
    assert found.shape[1] == len(states)
    assert {state.shape[-1] for state in states} == {16, 32}
    for layer, state in enumerate(states):
        width = state.shape[-1]
        torch.testing.assert_close(found[0, layer, :width], state[0, -1], rtol=0, atol=1e-4)
        assert not found[0, layer, width:].any()


def test_a_model_that_looks_ahead_is_refused_with_the_difference() -> None:
    config = BertConfig(**{**SMALL, "is_decoder": False})
    with pytest.raises(
        BadInput, match=r"logits change with the tokens after it \(differs by [\d.]+"
    ):
        model_of(config)


def test_a_model_of_which_no_way_is_exact_is_refused_with_each_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Way.pack

    def one_off(self: Way, rows: Any, pad: int) -> batches.Batch:
        batch = run(self, rows, pad)
        batch.ids[:, 0] = 65
        return batch

    monkeypatch.setattr(Way, "pack", one_off)
    with pytest.raises(
        BadInput, match=r"in every way \(packed: differs by [^;]+; rows: [^;]+; equal rows: [^;]+\)"
    ):
        model_of(LlamaConfig(**SMALL))


def test_what_a_text_never_runs_through_is_not_trained() -> None:
    model = LanguageModel("gemma3", made(configuration("gemma3")), language_model.tiny().tokenizer)
    checking.settle(model, 0)
    frozen = {name for name, p in model.network.named_parameters() if not p.requires_grad}
    assert frozen
    assert all("vision" in name or "projector" in name for name in frozen)
    assert any(
        "language_model" in name for name, p in model.network.named_parameters() if p.requires_grad
    )


def test_a_network_without_hidden_states_is_scored_and_not_probed() -> None:
    model = language_model.tiny()
    model.answers.choice = checking.Choice(
        {checking.TRIED: ROWS}, {checking.TRIED: []}, stateless="it returns none"
    )
    assert score(model, SOME).logprobs
    with pytest.raises(BadInput, match=r"gives no hidden states.*probe.examples = 0"):
        score(model, SOME, states=("last",))


@pytest.mark.parametrize(
    ("longest", "most", "tried"),
    [(1, 2**31, 128), (128, 2**31, 128), (129, 2**31, 256), (9, 96, 96)],
)
def test_how_long_the_texts_are_that_it_is_tried_on(longest: int, most: int, tried: int) -> None:
    assert checking.size(longest, most) == tried


def test_a_model_says_how_it_is_computed() -> None:
    first, second = checking.explained(model_of(MistralConfig(**SMALL, sliding_window=16)))
    assert first.startswith("texts of up to 128 tokens are computed windows: ")
    assert "packed: differs by" in first
    assert second == "longer texts are tried when they come"


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_losses_of_routers_are_no_part_of_a_trials_loss(kind: str) -> None:
    """A configuration may ask for the router's loss; a trial trains on its answers alone."""
    trained = []
    for asked in (False, True):
        config = configuration(kind)
        config.output_router_logits = asked
        config.router_aux_loss_coef = 10.0
        model = LanguageModel(kind, made(config), language_model.tiny().tokenizer)
        checking.settle(model, 0)
        labelled = true(SOME)
        fine_tune(
            model,
            [Term(lambda epoch, labelled=labelled: labelled)],  # type: ignore[misc]
            Stage(epochs=1, batch=4, lr=1e-3),
            stage="learn",
            seed=0,
        )
        trained.append(dict(model.network.named_parameters()))
    moved = [name for name in trained[0] if "expert" in name or "gate" in name or "router" in name]
    assert moved
    for name, weight in trained[0].items():
        assert torch.equal(weight, trained[1][name]), name


def test_what_was_found_of_a_model_serves_the_next_one() -> None:
    config = MistralConfig(**SMALL, sliding_window=16)
    first = model_of(config)
    second = LanguageModel("again", made(config), first.tokenizer)
    checking.settle(second, 0, checking.found(first))
    assert second.answers.choice
    assert first.answers.choice
    assert second.answers.choice.ways == first.answers.choice.ways
    assert second.answers.layered == first.answers.layered
    assert score(second, SOME).logprobs == score(first, SOME).logprobs


def test_a_wheels_model_is_tried_once_in_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is tried each time: its weights may be others."""
    store = Store(tmp_path / "store")
    language_model.save(language_model.tiny(), tmp_path / "model")
    monkeypatch.setattr(loading, "located", lambda stem, store: (str(tmp_path / "model"), "main"))
    monkeypatch.setattr(sources, "_version", lambda source, store: "1")
    tried = []
    plainly_run = checking.plainly
    monkeypatch.setattr(
        checking, "plainly", lambda *given: tried.append(given) or plainly_run(*given)
    )
    first, second = (loading.load("owner/name", store) for _ in range(2))
    assert len(tried) == 1
    assert checking.explained(first) == checking.explained(second)
    for _ in range(2):
        loading.load(tmp_path / "model", store)
    assert len(tried) == 3
    # What was trained from it is computed as it is, in a trial that learned it and in the next.
    trained = loading.load(tmp_path / "model", store, trained_from="owner/name")
    assert len(tried) == 3
    assert checking.explained(trained) == checking.explained(first)


@pytest.mark.parametrize("tokens", [5, 8, 13, 16, 30])
def test_a_reformer_in_training_reads_texts_of_every_length_as_it_does_else(tokens: int) -> None:
    """Its own forward, told that it is trained, takes multiples of its chunks alone."""
    config = configuration("reformer")
    for name in ("attention", "hidden", "local_attention", "lsh_attention"):
        setattr(config, f"{name}_dropout_prob", 0.0)
        setattr(config, f"{name}_probs_dropout_prob", 0.0)
    config.local_attention_probs_dropout_prob = config.hidden_dropout_prob = 0.0
    answers = LanguageModel("reformer", made(config), language_model.tiny().tokenizer).answers
    ids = torch.arange(10, 10 + tokens)[None]
    expected = answers.network(ids, use_cache=False).logits
    for _ in range(2):
        answers.start_training()
        assert answers.network.training
        assert all(block.training for block in answers.network.reformer.encoder.layers)
        logits = answers.network(ids, use_cache=False).logits
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in answers.network.reformer.encoder.parameters())
