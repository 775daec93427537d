"""The faster forwards give what transformers' own give, forward and backward, in fp32 and bf16."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedModel, Qwen3Config
from transformers.models.llama.modeling_llama import LlamaMLP

from forget.models import checking, kernels, language_model, loading
from forget.models.answers import Answers
from forget.models.batches import Encoded, pack

pytestmark = pytest.mark.skipif(
    not torch.backends.cpu.get_cpu_capability().startswith("AVX512"),
    reason="the kernels are for processors with AVX-512",
)

SMALL = {"vocab_size": 257, "num_hidden_layers": 3, "num_attention_heads": 6}
CONFIGS = [
    LlamaConfig(
        **SMALL, hidden_size=96, intermediate_size=160, num_key_value_heads=2, attention_bias=True
    ),
    Qwen3Config(**SMALL, hidden_size=96, intermediate_size=160, num_key_value_heads=3, head_dim=16),
    GPT2Config(
        **SMALL, hidden_size=96, n_positions=256, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0
    ),
]


@pytest.fixture(params=CONFIGS, ids=lambda config: config.model_type)
def pair(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Return a network with random weights as it is, and its copy quickened."""
    torch.manual_seed(0)
    plain = AutoModelForCausalLM.from_config(request.param)
    with torch.no_grad():
        for weight in plain.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    quick = copy.deepcopy(plain)
    kernels.quicken(quick)
    return plain, quick


def batch(single: bool) -> list[Encoded]:
    draw = torch.Generator().manual_seed(1)

    def some(n: int) -> list[int]:
        return torch.randint(0, 257, (n,), generator=draw).tolist()

    lengths = [2] if single else [2, 3, 5]
    made = []
    for n in (40, 7):
        prompt = some(n)
        made.append(Encoded(prompt, [some(k) for k in lengths], lengths))
    return made


def gradients(
    network: PreTrainedModel, single: bool, bf16: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits, and the gradients of a scalar of them that every weight has a part in."""
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = Answers(network)(pack([[encoded] for encoded in batch(single)], pad=0))
    logits.float().log_softmax(-1).square().mean().backward()
    return logits.detach().float(), {name: p.grad.clone() for name, p in network.named_parameters()}


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("single", [True, False], ids=["one option", "side by side"])
def test_fp32_is_equal_to_rounding(
    pair: tuple[PreTrainedModel, PreTrainedModel], single: bool
) -> None:
    plain, quick = pair
    logits, grads = gradients(plain, single, bf16=False)
    found, found_grads = gradients(quick, single, bf16=False)
    assert distance(found, logits) < 1e-5
    for name, grad in grads.items():
        assert distance(found_grads[name], grad) < 1e-4, name


@pytest.mark.parametrize("single", [True, False], ids=["one option", "side by side"])
def test_bf16_is_as_near_to_fp32_as_the_modules_own(
    pair: tuple[PreTrainedModel, PreTrainedModel], single: bool
) -> None:
    plain, quick = pair
    exact, exact_grads = gradients(plain, single, bf16=False)
    own, own_grads = gradients(plain, single, bf16=True)
    found, found_grads = gradients(quick, single, bf16=True)
    assert distance(found, exact) < 1.2 * distance(own, exact)

    def flat(grads: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([grads[name].flatten() for name in exact_grads])

    exact_grad = flat(exact_grads)
    assert distance(flat(found_grads), exact_grad) < 1.2 * distance(flat(own_grads), exact_grad)


def test_modules_are_replaced_where_there_is_a_reason(
    pair: tuple[PreTrainedModel, PreTrainedModel],
) -> None:
    kinds = {type(module) for module in pair[1].modules()}
    assert kernels.Head in kinds
    assert nn.Linear not in kinds
    gated = pair[1].config.model_type != "gpt2"
    assert (kernels.RMSNorm in kinds) == gated
    assert (kernels.GatedMLP in kinds) == gated


def test_the_networks_own_forward_still_serves(
    pair: tuple[PreTrainedModel, PreTrainedModel],
) -> None:
    """Padding on the left, as generation has it."""
    ids = torch.randint(0, 257, (2, 9), generator=torch.Generator().manual_seed(2))
    seen = torch.ones_like(ids)
    seen[1, :4] = 0
    for bf16, bound in ((False, 1e-5), (True, 3e-2)):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            own, found = (
                network(ids, attention_mask=seen).logits.float()[seen.bool()] for network in pair
            )
        assert distance(found, own) < bound


def test_dropout_of_attention_is_drawn_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 4, 8, 16).bfloat16() for _ in range(3))
    layer = nn.Module()
    exact = kernels.attend(layer, query, key, value, None)[0].float()
    draws = torch.stack(
        [
            kernels.attend(layer, query, key, value, None, dropout=0.5)[0].float()
            for _ in range(2000)
        ]
    )
    assert draws.std(0).max() > 0.1
    assert distance(draws.mean(0), exact) < 0.05


def test_a_saved_model_knows_nothing_of_the_kernels(tmp_path: Path) -> None:
    model = loading.load("tiny", device="cpu")
    assert model.network.config._attn_implementation == kernels.ATTENTION
    language_model.save(model, tmp_path)
    assert kernels.ATTENTION not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [
        "LlamaForCausalLM"
    ]
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert {type(module).__module__ for module in plain.modules()} & {kernels.__name__} == set()


def test_a_gate_that_only_looks_like_the_usual_one_stays_as_it_is() -> None:
    """The kernels go by names of parts: a module that computes otherwise must not pass unseen."""

    class Scaled(LlamaMLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model = language_model.tiny()
    for module in model.network.modules():
        if type(module) is LlamaMLP:
            module.__class__ = Scaled
    checking.settle(model, 0)
    kinds = {type(module) for module in model.network.modules()}
    assert Scaled in kinds
    assert kernels.Linear not in kinds
    assert model.network.config._attn_implementation == "sdpa"


def test_kernels_stay_where_they_change_nothing() -> None:
    model = language_model.tiny()
    checking.settle(model, 0)
    assert kernels.GatedMLP in {type(module) for module in model.network.modules()}


def test_what_a_process_keeps_it_gives_back_when_asked() -> None:
    """In a process of its own, since what is kept is of the process."""
    program = """
import psutil, torch
from forget.models.kernels import keep_memory, release_memory

def held():
    return psutil.Process().memory_info().rss / 2**20

keep_memory()
before = held()
blocks = [torch.ones(2**18) for _ in range(400)]
blocks.append(blocks)
del blocks
kept = held() - before
release_memory()
print(kept, held() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    kept, left = map(float, done.stdout.split())
    assert kept > 350
    assert left < 50


def tied(padding: int | None) -> tuple[kernels.TiedEmbedding, kernels.Head]:
    """Return an embedding and an output layer with the same weights."""
    torch.manual_seed(0)
    embedding, head = nn.Embedding(31, 16, padding_idx=padding), nn.Linear(16, 31, bias=False)
    head.weight = embedding.weight
    head.__class__, embedding.__class__ = kernels.Head, kernels.TiedEmbedding
    vars(embedding)["head"] = head
    return embedding, head  # type: ignore[return-value]  # their classes were changed


@pytest.mark.parametrize("padding", [None, 5])
@pytest.mark.parametrize("reaches", ["both", "embedding", "head"])
def test_tied_weights_have_the_gradient_of_both_uses_to_the_bit(
    padding: int | None, reaches: str
) -> None:
    embedding, head = tied(padding)
    # Tokens that occur twice, and the padding.
    ids = torch.tensor([[5, 7, 7, 30, 0, 5], [7, 1, 2, 30, 7, 5]])

    def gradient() -> torch.Tensor:
        embedding.zero_grad()
        # Two passes: gradients add up over micro-batches.
        for part in ids.split(1):
            states = embedding(part).sin()
            if reaches == "head":
                states = states.detach()
            found = states.square() if reaches == "embedding" else head(states)
            found.exp().sum().backward()
        assert embedding.weight.grad is not None
        assert not embedding.weight.grad.is_sparse
        return embedding.weight.grad.clone()

    shared = gradient()
    head.shared = None  # What a pass that ended before the output layer has left.
    embedding.__class__ = nn.Embedding  # type: ignore[assignment]
    assert torch.equal(shared, gradient())


def test_tied_weights_that_are_frozen_or_only_read_are_shared_by_nobody() -> None:
    embedding, head = tied(None)
    with torch.no_grad():
        head(embedding(torch.tensor([1, 2])))
    embedding.weight.requires_grad_(False)
    assert not head(embedding(torch.tensor([1, 2]))).requires_grad
    assert head.shared is None


@pytest.mark.parametrize("setting", ["max_norm", "scale_grad_by_freq", "sparse"])
def test_an_embedding_with_a_gradient_of_its_own_kind_stays_as_it_is(setting: str) -> None:
    network = AutoModelForCausalLM.from_config(CONFIGS[2])
    setattr(network.get_input_embeddings(), setting, 1)
    kernels.quicken(network)
    assert type(network.get_input_embeddings()) is nn.Embedding
    assert type(network.get_output_embeddings()) is kernels.Head


def test_weights_that_are_no_longer_tied_are_shared_no_longer() -> None:
    embedding, head = tied(None)
    head.weight = nn.Parameter(torch.zeros(31, 16))
    assert not head(embedding(torch.tensor([1, 2]))).any()
