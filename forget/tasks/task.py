"""Tasks, their records, and the examples that are made of records."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

SPLITS = ("train", "validation", "test", "near", "similar")
"""Splits that a task may have. `near` asks train items in other words; `similar` asks held-out
items of templates that train has. A trial reads no `validation`: it is for whoever tunes settings.
"""

_TASK = "Below is an instruction that describes a task, paired with an input that provides further"
_TASK += " context. "
_INPUT = "Below is an input sentence as context, paired with an instruction that describes a task. "
_REQUEST = "Write a response that appropriately completes the request.\n\n"
_RESPONSE = "### Response:"
_GIVEN = "### Instruction:\n{instruction}\n\n"
_ASKED = "### Input:\n{input}\n\n"

TEMPLATES = {
    "qa": "{passage}\nQuestion: {question}\nAnswer:",
    "bare": "{passage}\n{question}\n",
    "pre": _TASK + _REQUEST + _GIVEN + _ASKED + _RESPONSE,
    "post": _INPUT + _REQUEST + _ASKED + _GIVEN + _RESPONSE,
    "both": _TASK + _REQUEST + _GIVEN + _ASKED + _GIVEN + _RESPONSE,
    "pre_plain": "{instruction}\n{input}\n",
    "post_plain": "{input}\n{instruction}\n",
}
"""Prompts by name, in which a task can be asked instead of its own (`Trial.template`).

An instruction before its input, after it, or both: the frame is that of Alpaca, the order after Liu
et al. 2023 (2308.12097). {input} is the passage and, on the next line, the question.
"""

UNSPACED = ("pre_plain", "post_plain")
"""Templates behind which an option has no blank before it: they end in a line break."""

INSTRUCTED = ("pre", "post", "both", *UNSPACED)
"""Templates for tasks that have an instruction."""


@dataclass(frozen=True, slots=True)
class Record:
    """An item as its source gives it, before a prompt is made of it."""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    """Index of the true choice."""
    passage: str = ""
    suffix: str = ""
    """Text that follows the choice. Where there is any, it is scored instead of the choice, as in
    WinoGrande's partial evaluation.
    """
    source: str = ""
    """Id of the train item that this one paraphrases, in the split `near`."""
    group: str = ""
    """Name of what the item was made of, where others were made of the same, such as the two
    questions about a pair of facts. Where it is empty, items of one passage, and else of one
    question, are of one group.
    """
    template: str = ""
    """Name of the template that asks the item, such as a relation; of the split `similar`, a trial
    takes the items whose template it trains on.
    """


@dataclass(frozen=True, slots=True)
class Example:
    """An item as a model reads it: `prompt + options[i] + suffix`."""

    id: str
    prompt: str
    options: tuple[str, ...]
    """Continuations of the prompt, leading space included."""
    answer: int
    """Index of the true option."""
    suffix: str = ""
    """Text that follows the option, as in `Record`."""
    source: str = ""
    """Id of the train example that this one paraphrases, in the split `near`."""
    task: str = ""
    """Name of the task that it is of; ids tell examples of one task apart."""
    group: str = ""
    """Name of the source that it may share with other examples, as in `Record`."""
    template: str = ""
    """Name of the template that asks it, as in `Record`."""


@dataclass(frozen=True)
class Task:
    """A source of records, and the wording in which they are asked."""

    name: str
    family: str
    """Kind of task, by which reports group."""
    prompt: str
    """Format string over {question}, {passage} and {listed} (lettered lines of choices; the letters
    are then the options).
    """
    records: Callable[[str], Sequence[Record]]
    """Records of a split. Raises BadInput where they cannot be had."""
    fingerprint: Callable[[], str]
    """Identity of the data, without loading what is far away."""
    splits: tuple[str, ...] = SPLITS
    kind: Literal["builtin", "hub", "files"] = "builtin"
    option: str = " {choice}"
    """Format string over {choice}, of the text that follows the prompt."""
    instruction: str = ""
    """Sentence that says what is to be done, for templates that ask by one."""
    note: str = ""
    """Remark for users: source, licence, chance level if it is not one over the options."""


def binarise(record: Record, task: str, split: str, seed: int) -> Record:
    """Keep the true choice and one distractor, drawn and ordered by (seed, task, split, record id).

    Two choices stay as they are. A paraphrase draws as the train record that it paraphrases.
    """
    if len(record.choices) == 2:
        return record
    place = f"train/{record.source}" if record.source else f"{split}/{record.id}"
    draw = random.Random(f"{seed}/{task}/{place}")
    distractor = draw.choice([i for i in range(len(record.choices)) if i != record.answer])
    kept = [record.answer, distractor]
    draw.shuffle(kept)
    choices = tuple(record.choices[i] for i in kept)
    return replace(record, choices=choices, answer=kept.index(record.answer))


def render(
    record: Record,
    prompt: str,
    option: str = " {choice}",
    task: str = "",
    instruction: str = "",
) -> Example:
    """Ask a record in the words of a prompt.

    Args:
        record: the item.
        prompt: format string as `Task.prompt`. With {listed}, the letters are the options.
        option: format string as `Task.option`.
        task: name of the task.
        instruction: text for {instruction}, where the prompt has it.
    """
    letters = string.ascii_uppercase[: len(record.choices)]
    lines = [f"{letter}. {choice}" for letter, choice in zip(letters, record.choices, strict=True)]
    listed = "\n".join(lines)
    answers = letters if "{listed}" in prompt else record.choices
    text = prompt.format(
        question=record.question,
        passage=record.passage,
        listed=listed,
        instruction=instruction,
        input="\n".join(filter(None, [record.passage, record.question])),
    )
    options = tuple(option.format(choice=choice) for choice in answers)
    return Example(
        record.id,
        text if record.passage else text.lstrip("\n"),
        options,
        record.answer,
        record.suffix,
        record.source,
        task,
        record.group or record.passage or record.question,
        record.template,
    )
