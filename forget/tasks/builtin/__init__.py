"""Tasks that ship with the package and need no network, one module each."""

from __future__ import annotations

import functools
from types import ModuleType

from forget.settings.identity import digest
from forget.tasks.builtin import (
    acceptability,
    arithmetic,
    entailment,
    physical,
    reading,
    science,
    sentiment,
    world,
)
from forget.tasks.task import Task

SPLITS = ("train", "test", "near", "similar")
"""Splits of every builtin task."""


def _task(module: ModuleType, family: str, prompt: str, instruction: str = "") -> Task:
    name = module.__name__.rpartition(".")[2]
    records = functools.cache(module.records)
    fingerprint = functools.cache(lambda: digest([repr(records(split)) for split in SPLITS]))
    return Task(name, family, prompt, records, fingerprint, splits=SPLITS, instruction=instruction)


_QUESTION = "Question: {question}\nAnswer:"
_FACT = "Answer the question in a word or a few."


TASKS = {
    task.name: task
    for task in (
        _task(science, "science facts", _QUESTION, _FACT),
        _task(world, "world knowledge", _QUESTION, _FACT),
        _task(
            physical,
            "physical commonsense",
            _QUESTION,
            "Answer the question about everyday things in a word or a few.",
        ),
        _task(
            entailment,
            "entailment",
            "{passage}\nQuestion: {question} True or False?\nAnswer:",
            "Decide by the first sentence whether the second one is True or False.",
        ),
        _task(
            acceptability,
            "linguistic acceptability",
            "Sentence: {passage}\nIs this sentence correct English?\nAnswer:",
            "Decide whether the sentence is correct English: yes or no.",
        ),
        _task(
            sentiment,
            "sentiment",
            "Review: {passage}\nSentiment:",
            "Decide whether the review is negative or positive.",
        ),
        _task(
            arithmetic,
            "arithmetic comparison",
            _QUESTION,
            "Compare the numbers and answer the question.",
        ),
        _task(
            reading,
            "reading comprehension",
            "{passage}\nQuestion: {question}\nAnswer:",
            "Answer the question in words of the passage.",
        ),
    )
}
