"""The stack that a user would pick: Trainer, lm-evaluation-harness, scikit-learn, as documented."""

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
"""Batch sizes that are tried with the harness."""
TRIED = 16
"""Number of examples on which they are tried."""
READ = 8
"""Texts in a batch where hidden states are read."""


def requests(examples: Sequence[Example]) -> list[Instance]:
    """Make a request for each option. Where there is a suffix, it is scored given the option."""
    pairs = []
    for example in examples:
        for option in example.options:
            if example.suffix:
                pairs.append((example.prompt + option, example.suffix))
            else:
                pairs.append((example.prompt, option))
    return [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]


class Harness:
    """lm-evaluation-harness over a network in memory.

    By default it runs at the batch size that is fastest for the first examples.
    """

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
        """The batch size, chosen once, after each has been tried warm."""
        if self._batch is None:
            self._run(max(BATCHES), self.examples[:TRIED])
            self._batch = min(BATCHES, key=self._seconds)
        return self._batch

    def score(self) -> list[tuple[float, ...]]:
        """Return the log-probability of each option, in nats, by example."""
        return self._run(self.batch, self.examples)

    def _run(self, batch: int, examples: Sequence[Example]) -> list[tuple[float, ...]]:
        device = str(self.network.device)
        harness = HFLM(
            pretrained=self.network, tokenizer=self.tokenizer, batch_size=batch, device=device
        )
        found = [one[0] for one in harness.loglikelihood(requests(examples), disable_tqdm=True)]
        scores, at = [], 0
        for example in examples:
            scores.append(tuple(found[at : at + len(example.options)]))
            at += len(example.options)
        return scores

    def _seconds(self, batch: int) -> float:
        began = time.perf_counter()
        self._run(batch, self.examples[:TRIED])
        return time.perf_counter() - began


class _Tokens(Dataset[dict[str, list[int]]]):
    """Sequences of prompt and answer, with the prompt left out of the loss."""

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
    """Order the items as the first epoch of `forget.training.loop.fine_tune` takes them."""
    return random.Random(f"{seed}/{stage}/0").sample(list(items), len(items))


def train(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Labelled],
    settings: Stage,
    bf16: bool = False,
) -> list[float]:
    """Train the network in place for an epoch, by Trainer, and return the loss of each step.

    Trainer's settings are its own, but for those that say what is learned (rate, batch, schedule,
    clipping), that log the loss of each step, which is compared, and that keep it from writing to
    disk or to a tracker.

    Args:
        network: the model.
        tokenizer: its tokenizer.
        items: what is learned, in this order.
        settings: rate, batch, schedule and clipping.
        bf16: train under autocast.
    """
    # The process's state and the network both keep the precision of whoever came first: Trainer
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
    """Read the hidden states of each answer's last token.

    Returns:
        Hidden states [options of all examples, layers + 1, width], and which options are true.
    """
    texts: list[str] = []
    right: list[bool] = []
    for example in examples:
        texts += [example.prompt + option + example.suffix for option in example.options]
        right += [option == example.answer for option in range(len(example.options))]
    found = []
    for at in range(0, len(texts), READ):
        batch = tokenizer(
            texts[at : at + READ], return_tensors="pt", padding=True, padding_side="right"
        ).to(network.device)
        with torch.no_grad():
            hidden: Any = network(**batch, output_hidden_states=True).hidden_states
        last = batch["attention_mask"].sum(1) - 1
        found.append(torch.stack(hidden, dim=2)[torch.arange(len(last)), last].float().cpu())
    return torch.cat(found).numpy(), np.array(right)


def probe(states: np.ndarray, right: np.ndarray, folds: np.ndarray) -> Iterable[float]:
    """Yield each layer's accuracy of logistic regressions, of two options a question.

    Each fold is asked of a fit on the others, whose penalty is chosen by asking each of these of a
    fit on the rest. It runs on one BLAS thread, with which scikit-learn is fastest on vectors this
    short.

    Args:
        states: [pairs, layers, width].
        right: [pairs], which belong to a true answer.
        folds: [questions].
    """
    fold, truth = np.repeat(folds, 2), right.reshape(-1, 2).argmax(1)
    numbers = sorted(set(folds))

    def hits(x: np.ndarray, l2: float, asked: int, other: int | None = None) -> int:
        rows = (fold != asked) & (fold != (asked if other is None else other))
        model = LogisticRegression(C=1 / (l2 * rows.sum()), max_iter=1000).fit(x[rows], right[rows])
        preferred = model.decision_function(x).reshape(-1, 2).argmax(1) == truth
        return int(preferred[folds == (asked if other is None else other)].sum())

    with threadpool_limits(1, user_api="blas"):
        for layer in range(states.shape[1]):
            x = StandardScaler().fit_transform(states[:, layer])
            right_in_all = 0
            for asked in numbers:
                others = [one for one in numbers if one != asked]
                scores = np.zeros(len(STRENGTHS))
                for place, l2 in enumerate(STRENGTHS):
                    scores[place] = sum(hits(x, l2, asked, other) for other in others)
                right_in_all += hits(x, STRENGTHS[int(scores.argmax())], asked)
            yield right_in_all / len(folds)
