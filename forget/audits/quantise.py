"""Quantisation: does rounding the weights bring back what was unlearned (2410.16454)?

The control is noise of the same size: what rounding gives that noise gives as well is no return.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from forget.audits.audit import Audit, Auditing, Several
from forget.models.adapting import PLAIN as LINEAR
from forget.models.language_model import LanguageModel
from forget.results.doses import dose
from forget.results.rows import Row
from forget.settings.trial import Trial

Format = Literal["int8", "nf4", "fp4", "bf16"]

NF4 = (
    -1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
)  # fmt: skip
"""Codes of 4-bit NormalFloat, quantiles of a normal distribution (Dettmers et al. 2023)."""

_FP4 = (0.0, 0.0625 / 12, 2 / 12, 3 / 12, 4 / 12, 6 / 12, 8 / 12, 1.0)
FP4 = (*(-code for code in reversed(_FP4[1:])), *_FP4)
"""Codes of the 4-bit float that is bitsandbytes' default."""

BLOCK = 64
"""Weights that share a scale in the 4-bit formats."""


class Quantise(Audit):
    """Round the weights of all linear layers but the head, and score."""

    asks: ClassVar[str] = "does rounding the weights bring it back"
    cost: ClassVar[str] = "a pass for each format and each draw of noise"

    name: Literal["quantise"] = "quantise"
    formats: Annotated[tuple[Format, ...], Several] = ("int8", "nf4", "fp4", "bf16")
    """int8: by row; nf4 and fp4: 4 bits in blocks of 64; bf16: every weight as the registered model
    has it, which must say what the measured one says.
    """
    noise: Annotated[tuple[Format, ...], Several] = ("nf4",)
    """Formats beside which Gaussian noise of the same norm, matrix by matrix, is scored."""
    draws: int = Field(3, ge=0, le=100)
    """Draws of the noise."""

    def run(self, at: Auditing) -> Iterator[Row]:
        """Yield Rows of the arm as it is, rounded, and with noise."""
        yield from at.plain()
        for kind in self.formats:
            with at.fresh() as model:
                change(model, ROUND[kind], everything=kind == "bf16")
                yield from at.score(at.test, kind)
        for kind in self.noise:
            sizes = errors(at.model, ROUND[kind])
            for draw in range(self.draws):
                with at.fresh() as model:
                    change(model, noise(sizes, draw))
                    yield from at.score(at.test, dose(f"{kind} noise", draw=draw))

    def passes(self, trial: Trial) -> float:
        """Count a pass for each format and draw."""
        return 1.0 + len(self.formats) + len(self.noise) * self.draws


Change = Callable[[torch.Tensor], torch.Tensor]
"""Weights [out, in] to others of that shape."""


@torch.no_grad()
def change(model: LanguageModel, by: Change, everything: bool = False) -> None:
    """Change the weights of all linear layers but the head in place.

    Args:
        model: what is changed.
        by: gives the new weights.
        everything: change all parameters, each as it is.
    """
    if everything:
        for weight in model.network.parameters():
            weight.copy_(by(weight))
        return
    for matrix, transposed in matrices(model):
        matrix.copy_(by(matrix.T).T if transposed else by(matrix))


def matrices(model: LanguageModel) -> Iterator[tuple[torch.Tensor, bool]]:
    """Yield the weights of each linear layer but the head, and whether they are [in, out]."""
    embeddings = model.network.get_input_embeddings().weight
    head = model.network.get_output_embeddings()
    for module in model.network.modules():
        if isinstance(module, LINEAR) and module is not head and module.weight is not embeddings:
            yield module.weight, not isinstance(module, nn.Linear)


def int8(weights: torch.Tensor) -> torch.Tensor:
    """Round each row to 255 steps of its largest weight (Dettmers et al. 2022, LLM.int8).

    Theirs keeps the largest activations in 16 bits, which says nothing of the weights.
    """
    largest = weights.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return torch.round(weights * 127 / largest) * largest / 127


def blockwise(weights: torch.Tensor, codes: tuple[float, ...]) -> torch.Tensor:
    """Round to the nearest of the codes times the largest weight of each block.

    A weight between two codes takes the lower one; scales are kept as they are.
    """
    flat = weights.flatten()
    padded = nn.functional.pad(flat, (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    largest = padded.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)
    table = torch.tensor(codes, dtype=flat.dtype, device=flat.device)
    places = torch.bucketize((padded / largest).clamp(-1, 1), (table[:-1] + table[1:]) / 2)
    return (table[places] * largest).flatten()[: len(flat)].view_as(weights)


def bf16(weights: torch.Tensor) -> torch.Tensor:
    """Round to bfloat16."""
    return weights.to(torch.bfloat16).to(weights.dtype)


@torch.no_grad()
def errors(model: LanguageModel, by: Change) -> list[torch.Tensor]:
    """Return the norm of a rounding's error in each of the `matrices`."""
    oriented = (matrix.T if transposed else matrix for matrix, transposed in matrices(model))
    return [(by(matrix) - matrix).norm() for matrix in oriented]


def noise(sizes: Sequence[torch.Tensor], draw: int) -> Change:
    """Return what adds Gaussian noise of these norms to one matrix after the other."""
    generator, left = torch.Generator().manual_seed(draw), iter(sizes)

    def add(weights: torch.Tensor) -> torch.Tensor:
        drawn = torch.randn(weights.shape, generator=generator).to(weights)
        return weights + drawn * (next(left) / drawn.norm().clamp(min=1e-30))

    return add


ROUND: dict[Format, Change] = {
    "int8": int8,
    "nf4": partial(blockwise, codes=NF4),
    "fp4": partial(blockwise, codes=FP4),
    "bf16": bf16,
}
"""Roundings by format."""
