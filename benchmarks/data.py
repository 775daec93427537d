"""Inputs of the benchmarks: a language model, and real tasks where there is a folder of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from forget import tasks
from forget.models import loading, sources
from forget.models.language_model import LanguageModel
from forget.storage.store import Store
from forget.tasks.task import Example

MODEL = "smollm2-135m"

DATA = Path(os.environ.get("FORGET_BENCH_DATA") or Path(__file__).parents[2] / "shared" / "data")
"""A folder of tasks (forget.tasks.files). Where there is none, the rows run on tasks that ship with
the package.
"""

REAL = DATA.is_dir()


def folders() -> tuple[str, ...]:
    return (str(DATA.resolve()),) if REAL else ()


def examples(task: str, n: int, split: str = "test") -> tuple[Example, ...]:
    """Load examples with all of their options."""
    return tasks.load(task, split, n, seed=0, folders=folders(), options="all")


def shipped(task: str, n: int) -> tuple[Example, ...]:
    """Load binarised examples to train on, from a task that ships with the package."""
    return tasks.load(task, "train", n, seed=0)


@functools.cache
def model() -> LanguageModel:
    """Load the model as the platform does, once a process."""
    return loading.load(MODEL, Store())


def folder() -> Path:
    """Return the model as a plain Hugging Face folder."""
    return Path(sources.located(MODEL, Store())[0])


def fresh_store(where: Path) -> Store:
    """Make a store that is empty but for the converted model, which any second run finds."""
    (where / "models").mkdir(parents=True)
    (where / "models" / folder().name).symlink_to(folder())
    return Store(where)


def network(
    layers: int | None = None, dtype: torch.dtype = torch.float32, where: Path | None = None
) -> PreTrainedModel:
    """Load a model as a user of transformers does, in evaluation mode.

    Args:
        layers: number of its first blocks that are kept; None keeps all.
        dtype: type of the weights.
        where: its folder; by default that of MODEL.
    """
    where = where or folder()
    config = AutoConfig.from_pretrained(where)
    config.num_hidden_layers = layers or config.num_hidden_layers
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # It reports the weights that a cut model leaves.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        where, config=config, dtype=dtype
    )
    return loaded.to(device).eval()  # type: ignore[arg-type]  # transformers hides the signature of `to`


@functools.cache
def other_network(dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load the other side's own copy, so that nothing done to ours reaches it."""
    return network(dtype=dtype)


def accuracy(scores: Sequence[Sequence[float]], some: Sequence[Example]) -> float:
    """Return the share of examples whose true option scores highest."""
    right = 0
    for options, example in zip(scores, some, strict=True):
        right += max(range(len(options)), key=options.__getitem__) == example.answer
    return right / len(some)
