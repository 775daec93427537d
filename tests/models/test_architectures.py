"""Every causal architecture of the installed transformers is served exactly, or refused."""

import inspect
from pathlib import Path

import pytest
import torch
from architectures import PAGE, attempt
from configurations import architectures, shrunk
from transformers import (
    Gemma4AssistantForCausalLM,
    MusicgenDecoderConfig,
    MusicgenForCausalLM,
)

SAMPLE = {
    # Side by side: rotary, learned and scaled positions, latent attention, mixtures of experts,
    # scaled logits, a head of an encoder, layers of two widths.
    "llama": "packed",
    "gpt2": "packed",
    "gpt_neox": "packed",
    "granite": "packed",
    "bert": "packed",
    "opt": "packed",
    "qwen3_moe": "packed",
    "deepseek_v3": "packed",
    "jetmoe": "packed",
    "dbrx": "packed",
    # Windows: capped logits, sinks, experts, a model with eyes.
    "gemma2": "windows",
    "gemma3": "windows",
    "gpt_oss": "windows",
    "phimoe": "windows",
    # One option a row: biases by distance, recurrent, hybrid, compressed.
    "bloom": "rows",
    "gpt_neo": "rows",
    "mamba": "rows",
    "falcon_h1": "rows",
    "qwen3_next": "rows",
    "deepseek_v4": "rows",
    # Refused: a forward pass that looks ahead, a model of sounds, one that completes another.
    "cpmant": "",
    "musicgen": "",
    "gemma4_assistant": "",
}
"""Architectures of each kind, by the way that is found for them."""

REFUSED = dict.fromkeys(("cpmant", "prophetnet"), "logits change with the tokens after it")
"""Architectures that are refused, by words of the reason."""

FOREIGN = {
    "gemma4_assistant": "reads no token ids",
    "gemma4_unified_assistant": "reads no token ids",
    "musicgen": "gives out audio",
    "musicgen_melody": "gives out audio",
}
"""Architectures that are no language models of text, by words of the reason."""

FP32 = {"dbrx", "xmod"}
"""Architectures whose own forward does not run in bf16 by autocast."""


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind in SAMPLE else pytest.mark.slow)
        for kind in architectures()
    ],
)
def test_an_architecture_is_served_exactly_or_refused(kind: str, tmp_path: Path) -> None:
    tried = attempt(kind, tmp_path)
    assert not tried.crashed, tried.crashed
    assert tried.foreign == (kind in FOREIGN)
    if reason := (REFUSED | FOREIGN).get(kind):
        assert reason in tried.refused
        return
    assert tried.exact, tried
    assert SAMPLE.get(kind, tried.way) == tried.way
    assert (tried.trains, tried.lora, tried.saves) == ("yes", "yes", "yes")
    assert tried.bf16 == "yes" or kind in FP32, tried.bf16


def test_the_page_has_a_row_for_every_architecture() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    kinds = [row.split("|")[1].strip() for row in rows][1:]
    assert kinds == list(architectures())


def test_a_text_alone_gives_no_next_token_where_a_model_is_none_of_text() -> None:
    """The classes are asked themselves, as transformers makes them, for what they say of a text."""
    ids = torch.tensor([[10, 11, 12, 13]])
    sounds = MusicgenForCausalLM(shrunk(MusicgenDecoderConfig, num_codebooks=4)).eval()
    with pytest.raises(RuntimeError, match=r"shape '\[-1, 4, 4\]' is invalid"):
        sounds(ids[:, :4])
    # Four texts are the four codebooks of one sound.
    assert sounds(ids.expand(4, -1), use_cache=False).logits.shape[:2] == (4, 4)
    completing = object.__new__(Gemma4AssistantForCausalLM)
    with pytest.raises(ValueError, match="inputs_embeds and shared_kv_states cannot be None"):
        inspect.unwrap(Gemma4AssistantForCausalLM.forward)(completing, ids)
