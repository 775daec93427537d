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


def _task(module: ModuleType, family: str, prompt: str) -> Task:
    name = module.__name__.rpartition(".")[2]
    records = functools.cache(module.records)
    fingerprint = functools.cache(lambda: digest([repr(records(split)) for split in SPLITS]))
    return Task(name, family, prompt, records, fingerprint, splits=SPLITS)


TASKS = {
    task.name: task
    for task in (
        _task(science, "science facts", "Question: {question}\nAnswer:"),
        _task(world, "world knowledge", "Question: {question}\nAnswer:"),
        _task(physical, "physical commonsense", "Question: {question}\nAnswer:"),
        _task(entailment, "entailment", "{passage}\nQuestion: {question} True or False?\nAnswer:"),
        _task(
            acceptability,
            "linguistic acceptability",
            "Sentence: {passage}\nIs this sentence correct English?\nAnswer:",
        ),
        _task(sentiment, "sentiment", "Review: {passage}\nSentiment:"),
        _task(arithmetic, "arithmetic comparison", "Question: {question}\nAnswer:"),
        _task(reading, "reading comprehension", "{passage}\nQuestion: {question}\nAnswer:"),
    )
}
