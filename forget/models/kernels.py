"""Faster or smaller CPU versions of common layers and of attention; equal up to rounding.

transformers leaves these to general kernels; here they are arranged for matrix units and caches.
Modules keep their names and weights. Where the machine or a module gives no reason for another
version, it stays as it was.
"""

from __future__ import annotations

import ctypes
import gc
import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.activations import SiLUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from forget.machine import cores

ATTENTION = "forget_cpu"
"""Name of `attend` among transformers' attention implementations."""

LONGEST = 512
"""Most tokens of a sequence whose attention scores are written out; those of longer ones do not fit
in the caches.
"""


def quicken(network: PreTrainedModel) -> Callable[[], None]:
    """Give the modules of a network that stays on the CPU faster forwards, where there are some.

    Returns:
        What undoes it.
    """
    kinds = {module: type(module) for module in network.modules()}
    implementation = network.config._attn_implementation

    def undo() -> None:
        for module, kind in kinds.items():
            if type(module) is not kind:
                module.__class__ = kind
        if network.config._attn_implementation != implementation:
            network.set_attn_implementation(implementation)

    if (
        not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        or not torch.backends.mkldnn.is_available()
    ):
        return undo
    outside = set(network.base_model.children())
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
        # The last norm stays: its output is a hidden state, which is read in fp32.
        elif _is_rms_norm(module) and module not in outside:
            module.__class__ = RMSNorm
        elif _is_gated(module):
            module.__class__ = GatedMLP
    _quicken_ends(network)
    if network.config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, attend)
        # The network's own forward then makes masks that are added, as `attend` takes them.
        AttentionMaskInterface.register(ATTENTION, eager_mask)
        network.set_attn_implementation(ATTENTION)
    return undo


def _quicken_ends(network: PreTrainedModel) -> None:
    """Give the output layer, and the embedding that has its weights, faster forwards."""
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    if type(head) is not Linear:
        return
    head.__class__ = Head
    tied = type(embedding) is nn.Embedding and embedding.weight is head.weight
    if tied and not (embedding.max_norm or embedding.scale_grad_by_freq or embedding.sparse):
        embedding.__class__ = TiedEmbedding
        # As a module of its own it would be saved a second time.
        vars(embedding)["head"] = head


def keep_memory() -> None:
    """Keep freed memory in this process, which trains: the next step asks for as much again.

    glibc gives large blocks back to the kernel and takes them anew, zeroed page by page, which is a
    tenth of a training step. Blocks as large as a whole vocabulary still go back, since among the
    others they would leave holes that nothing else fills.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    # Parameters of mallopt(3).
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 2**26)
    mallopt(trim_threshold, -1)


def release_memory() -> None:
    """Give what `keep_memory` keeps back to the kernel, between two pieces of work.

    Garbage that has cycles is collected first: a trained model is some.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def keep_to_cores() -> None:
    """Compute in no more threads than this process has cores: torch knows no container's quota."""
    torch.set_num_threads(min(torch.get_num_threads(), cores()))


class Linear(nn.Linear):
    """Linear layer that computes in fp32 by oneDNN.

    On AMD's processors MKL, which torch takes, stays at half of what the matrix units give.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        return self.product(input, self.weight)

    def product(self, input: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return input x weight' + bias in fp32."""
        product = _Product.apply(input, weight)
        return product if self.bias is None else product + self.bias


class Head(Linear):
    """Output layer whose logits are in fp32 where all else is in bf16.

    At the few positions of answers this costs little, and the error is a fifth less.
    """

    shared: torch.Tensor | None = None
    """The weights as a `TiedEmbedding` has shared them for this pass."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        shared, self.shared = self.shared, None
        weight = self.weight if shared is None else shared
        with torch.autocast("cpu", enabled=False):
            return self.product(input.float(), weight)


class TiedEmbedding(nn.Embedding):
    """Embedding with the weights of the output layer, whose gradient is of the tokens that occur.

    A dense one would be a second gradient of the whole vocabulary beside the output layer's, at the
    moment when a training needs most memory.
    """

    head: Head

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        trained = torch.is_grad_enabled() and self.weight.requires_grad
        if not trained or self.head.weight is not self.weight:
            return super().forward(input)
        own, self.head.shared = _Shared.apply(self.weight)
        return _Embedded.apply(input, own, self.padding_idx)


class RMSNorm(nn.Module):
    """RMSNorm in three passes over the states, not seven.

    Its output is rounded to bf16 once, not by each module that reads it.
    """

    weight: nn.Parameter
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        dtype = hidden_states.dtype
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
        return _Normalised.apply(hidden_states, self.weight, self.variance_epsilon, dtype)


class GatedMLP(nn.Module):
    """Gated MLP that keeps both projections for the backward pass, not the steps between."""

    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(_Gated.apply(self.gate_proj(x), self.up_proj(x)))


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **of: Any,
) -> tuple[torch.Tensor, None]:
    """Attend, for short sequences in bf16, by products that take all queries of a key at once.

    torch's fused kernel takes up to three times as long for these on a CPU. All else goes to it.

    Args:
        module: the attention module, for torch's kernel.
        query: [B, heads, L, width].
        key: [B, groups, L, width], where groups divides heads.
        value: as `key`.
        attention_mask: [B or 1, 1, L, L], added to the scores; None where each token sees those up
            to itself.
        dropout: share of the attention weights that are dropped.
        scaling: factor of the scores; by default width^-0.5.
        of: other arguments of transformers' attention, for torch's kernel.

    Returns:
        [B, L, heads, width], and no weights.
    """
    if torch.is_autocast_enabled("cpu"):
        # Autocast does so for torch's kernel. The tensors come in fp32 from rotary positions.
        query, key, value = (x.to(torch.get_autocast_dtype("cpu")) for x in (query, key, value))
    size, heads, length, width = query.shape
    groups, seen = key.shape[1:3]
    if attention_mask is not None:
        # Unclamped, fp32's least number is -inf in bf16, and a row of padding, which sees nothing,
        # becomes NaN.
        attention_mask = attention_mask.clamp(min=torch.finfo(query.dtype).min).to(query.dtype)
    if (
        query.dtype != torch.bfloat16
        or seen > LONGEST
        or length != seen
        or of.get("position_bias") is not None
    ):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **of
        )
    if attention_mask is None:
        attention_mask = query.new_full((1, 1, length, length), -torch.inf).triu_(1)
    rows = (size * groups, heads // groups * length)
    bias = attention_mask.expand(size, heads, length, length).reshape(*rows, length)
    keys, values = (x.reshape(size * groups, length, -1) for x in (key, value))
    scale = width**-0.5 if scaling is None else scaling
    scores = torch.baddbmm(bias, query.reshape(*rows, width), keys.transpose(1, 2), alpha=scale)
    weights = scores.softmax(-1)
    if dropout:
        weights = functional.dropout(weights, dropout)
    attended = (weights @ values).view(size, heads, length, -1).transpose(1, 2)
    # As torch's kernel gives it; some networks look at it as [B, L, heads x width].
    return attended.contiguous(), None


def _is_rms_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon")


def _is_gated(module: nn.Module) -> bool:
    """Return whether the parts of the module are those of a gated MLP with SiLU."""
    projections = {name for name, _ in module.named_children()} - {"act_fn"}
    is_silu = isinstance(getattr(module, "act_fn", None), (nn.SiLU, SiLUActivation))
    return is_silu and projections == {"gate_proj", "up_proj", "down_proj"}


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return a b'; a may have more than two dimensions.

    The operator has no public name; torch's compiler calls it by this one, too.
    """
    return torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")


class _Product(torch.autograd.Function):
    """Product x weight' and its derivatives."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad
        grad = grads[0].reshape(-1, weight.shape[0])
        to_x = _product(grad, weight.t()).view(x.shape) if needs_x else None
        return to_x, _product(grad.t(), x.reshape(-1, x.shape[-1]).t()) if needs_weight else None


class _Shared(torch.autograd.Function):
    """The weights twice, for the embedding and for the output layer, whose gradients meet here."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.set_materialize_grads(False)
        return weight.view_as(weight), weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> torch.Tensor | None:
        sparse, dense = grads
        if sparse is None or dense is None:
            return dense if sparse is None else sparse.to_dense()
        # Nothing else reads it: `_Product` has just made it for this.
        return dense.add_(sparse)


class _Embedded(torch.autograd.Function):
    """Rows of the weights by token, and their derivative as a sparse tensor."""

    @staticmethod
    def forward(
        ctx: Any, ids: torch.Tensor, weight: torch.Tensor, padding: int | None
    ) -> torch.Tensor:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.padding = weight.shape, padding
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        (ids,) = ctx.saved_tensors
        tokens, places = ids.unique(return_inverse=True)
        rows = torch.ops.aten.embedding_dense_backward(grads[0], places, len(tokens), -1, False)
        if ctx.padding is not None:
            rows[tokens == ctx.padding] = 0
        sparse = torch.sparse_coo_tensor(
            tokens[None], rows, ctx.shape, is_coalesced=True, check_invariants=False
        )
        return None, sparse, None


class _Normalised(torch.autograd.Function):
    """RMSNorm weight x / sqrt(mean(x^2) + epsilon), rounded to `dtype`, and its derivatives."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float, dtype: torch.dtype
    ) -> torch.Tensor:
        x = x.float()
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(
        ctx: Any, *grads: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        x, weight, scale = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        grad = grads[0].float()
        normalised = x * scale
        outer = grad * normalised
        to_weight = outer.reshape(-1, outer.shape[-1]).sum(0) if needs_weight else None
        if not needs_x:
            return None, to_weight, None, None
        along = outer.mul_(weight).mean(-1, keepdim=True)
        return (grad * weight).sub_(normalised.mul_(along)).mul_(scale), to_weight, None, None


class _Gated(torch.autograd.Function):
    """Product silu(gate) up and its derivatives."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        (grad,) = grads
        to_up = functional.silu(gate).mul_(grad)
        return torch.ops.aten.silu_backward(grad * up, gate), to_up
