"""What a user would pick instead: Hugging Face's Trainer, lm-evaluation-harness and scikit-learn, used as they tell."""

from __future__ import annotations

import logging
import random
import tempfile
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch.utils.data import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from forget.evaluation.probing import STRENGTHS
from forget.settings.parts import Stage
from forget.tasks.labels import Labelled
from forget.tasks.task import Example

# The harness warns, at each call, that it takes the network as it is.
logging.getLogger("lm_eval").setLevel(logging.ERROR)

BATCHES = (1, 4, 8, 16, 32)
"""Batch sizes tried with the harness."""
TRIED = 16
"""Examples they are tried on."""
READ = 8
"""Texts a batch where hidden states are read."""


def requests(examples: Sequence[Example]) -> list[Instance]:
    """One for each option. A suffix is scored given the option."""
    pairs = [
        (e.prompt + option, e.suffix) if e.suffix else (e.prompt, option)
        for e in examples
        for option in e.options
    ]
    return [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]


class Harness:
    """lm-evaluation-harness over a network in memory, by default at the batch size that is fastest for the first examples."""

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        batch: int | None = None,
    ) -> None:
        self.network, self.tokenizer, self.examples = network, tokenizer, examples
        self._batch = batch

    @property
    def batch(self) -> int:
        """Tried once, each size warm."""
        if self._batch is None:
            self._run(max(BATCHES), self.examples[:TRIED])
            self._batch = min(BATCHES, key=self._seconds)
        return self._batch

    def score(self) -> list[tuple[float, ...]]:
        """By example, the log-probability of each option, in nats."""
        return self._run(self.batch, self.examples)

    def _run(self, batch: int, examples: Sequence[Example]) -> list[tuple[float, ...]]:
        device = str(self.network.device)
        harness = HFLM(
            pretrained=self.network, tokenizer=self.tokenizer, batch_size=batch, device=device
        )
        found = iter(harness.loglikelihood(requests(examples), disable_tqdm=True))
        return [tuple(next(found)[0] for _ in e.options) for e in examples]

    def _seconds(self, batch: int) -> float:
        began = time.perf_counter()
        self._run(batch, self.examples[:TRIED])
        return time.perf_counter() - began


class _Tokens(Dataset[dict[str, list[int]]]):
    """Prompt and answer as one sequence, the prompt left out of the loss."""

    def __init__(self, items: Sequence[Labelled], tokenizer: PreTrainedTokenizerBase) -> None:
        self.rows = []
        for item in items:
            example, option = item.example, item.example.options[item.label]
            ids = tokenizer(example.prompt + option + example.suffix)["input_ids"]
            told = len(tokenizer(example.prompt + (option if example.suffix else ""))["input_ids"])
            self.rows.append({"input_ids": ids, "labels": [-100] * told + ids[told:]})

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self.rows[index]


def ordered(items: Sequence[Labelled], seed: int, stage: str) -> list[Labelled]:
    """In the order in which the first epoch of `forget.training.loop.fine_tune` takes them."""
    return random.Random(f"{seed}/{stage}/0").sample(list(items), len(items))


def train(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Labelled],
    settings: Stage,
    bf16: bool = False,
) -> list[float]:
    """An epoch of Trainer in place, on the items in this order; the loss of each step.

    Its settings are its own, but for those that say what is learned (rate, batch, schedule,
    clipping), for the loss of each step, which is compared, and for what would write to disk or to
    a tracker.
    """
    # Both keep the precision of whoever came first, the process's state and the network: Trainer
    # would not compute in bf16.
    AcceleratorState._reset_state(reset_partial_state=True)
    vars(network).pop("_is_accelerate_prepared", None)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=settings.batch,
            learning_rate=settings.lr,
            lr_scheduler_type=settings.schedule,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.clip,
            train_sampling_strategy="sequential",
            bf16=bf16,
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(
            model=network,
            args=arguments,
            train_dataset=_Tokens(items, tokenizer),
            data_collator=DataCollatorForSeq2Seq(tokenizer),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        # In bf16 the network's own forward has been replaced by one that autocasts, for good.
        trainer.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
    AcceleratorState._reset_state(reset_partial_state=True)
    network.eval()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def states(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]
) -> tuple[np.ndarray, np.ndarray]:
    """[options of all examples, layers + 1, width] hidden states of each answer's last token, and [options] which are true."""
    texts = [e.prompt + option + e.suffix for e in examples for option in e.options]
    found = []
    for at in range(0, len(texts), READ):
        batch = tokenizer(
            texts[at : at + READ], return_tensors="pt", padding=True, padding_side="right"
        ).to(network.device)
        with torch.no_grad():
            hidden: Any = network(**batch, output_hidden_states=True).hidden_states
        last = batch["attention_mask"].sum(1) - 1
        found.append(torch.stack(hidden, dim=2)[torch.arange(len(last)), last].float().cpu())
    right = [option == e.answer for e in examples for option in range(len(e.options))]
    return torch.cat(found).numpy(), np.array(right)


Pairs = tuple[np.ndarray, np.ndarray]
"""Hidden states and which of them belong to a true answer."""


def probe(train: Pairs, validation: Pairs, test: Pairs) -> Iterable[float]:
    """By layer, the test accuracy of a logistic regression with the L2 penalty that is best on validation.

    On one BLAS thread, with which scikit-learn is fastest on vectors this short.
    """
    with threadpool_limits(1, user_api="blas"):
        for layer in range(train[0].shape[1]):
            scaler = StandardScaler().fit(train[0][:, layer])
            (x, y), (vx, vy), (tx, ty) = (
                (scaler.transform(part[0][:, layer]), part[1]) for part in (train, validation, test)
            )
            fits = [
                LogisticRegression(C=1 / (l2 * len(y)), max_iter=1000).fit(x, y) for l2 in STRENGTHS
            ]
            yield max(fits, key=lambda fit: fit.score(vx, vy)).score(tx, ty)
