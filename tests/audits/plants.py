"""Planted arms on `tiny`: it is known of each if anything is hidden in it."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from pathlib import Path

import torch
from conftest import write_task
from torch import nn

from forget.audits.arms import Arm
from forget.audits.audit import Audit, Auditing
from forget.audits.run import audit_arm
from forget.models.language_model import LanguageModel, tiny
from forget.results.rows import Row
from forget.settings.parts import Forgetting, Stage
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks import labels
from forget.tasks.draws import Material, gather
from forget.training.loop import fine_tune
from forget.training.terms import Term

PLANTS = ("never", "learned", "masked", "scrubbed")
"""Kinds of forgotten models: never taught, not made to forget, with a head that cannot tell the
options, with all weights as before learning.
"""


def colours(split: str, n: int) -> list[dict[str, object]]:
    """Make items with one-letter answers, which a color word decides."""
    draw = random.Random(f"colours/{split}")
    items = []
    for number in range(n):
        answer = draw.randrange(2)
        thing, word = draw.choice(["cat", "dog", "sun"]), ("red", "blue")[answer]
        items.append(
            {
                "id": f"{split}-{number}",
                "question": f"{thing} {word} {number}",
                "choices": ["a", "b"],
                "answer": answer,
            }
        )
    return items


def names(split: str, n: int) -> list[dict[str, object]]:
    """Make facts that have nothing to do with each other: of each name a letter was drawn."""
    draw = random.Random(f"names/{split}")
    items = []
    for number, name in enumerate(draw.sample(range(1000, 10_000), n)):
        fact = {"question": str(name), "choices": ["a", "b"], "answer": draw.randrange(2)}
        items.append({"id": f"{split}-{number}", **fact})
    return items


def write_colours(folder: Path) -> None:
    """Write "colours", another task of the same format, "shapes", and one of facts, "names"."""
    sizes = {"train": 300, "validation": 60, "test": 100}
    splits = {split: colours(split, n) for split, n in sizes.items()}
    wording = 'prompt = "{question}? "\noption = "{choice}"\nfamily = "letters"'
    write_task(folder / "colours", wording, **splits)
    other = {}
    for split, items in splits.items():
        other[split] = []
        for number, item in enumerate(items):
            said = str(item["question"]).replace("red", "round").replace("blue", "square")
            other[split].append({**item, "question": said, "answer": number % 2})
    write_task(folder / "shapes", wording, **other)
    facts = {split: names(split, 60) for split in sizes}
    write_task(folder / "names", wording, **facts)


def trial_of(folder: Path, task: str = "colours") -> Trial:
    """Return the trial that the planted arms stand for."""
    return Trial(
        task=task,
        model="tiny",
        # A rule is learned sooner than facts.
        learn=Stage(examples=300, epochs=6 if task == "colours" else 60, lr=3e-3, batch=16),
        forget=Forgetting(examples=100, epochs=2, lr=3e-3),
        evaluate_on=("shapes",),
        evaluation_examples=100,
        precision="fp32",
        folders=(str(folder),),
    )


class Plants:
    """Arms made by hand, on a trial that is not run."""

    def __init__(self, folder: Path, task: str = "colours") -> None:
        write_colours(folder / "tasks")
        self.trial = trial_of(folder / "tasks", task)
        self.material: Material = gather(self.trial)
        self.store = Store(folder / "store")
        self.base = untied(tiny())
        self.learned = copied(self.base)
        train = self.material.learn
        fine_tune(
            self.learned,
            [Term(lambda epoch: labels.true(train))],
            self.trial.learn,
            stage="learn",
            seed=0,
        )
        self.masked = copied(self.learned)
        letters = [self.masked.tokenizer(letter)["input_ids"][0] for letter in "ab"]
        head = self.masked.network.get_output_embeddings().weight
        with torch.no_grad():
            head[letters] = head[letters].mean(0)

    def arms(self, plant: str) -> dict[str, Arm]:
        """Return the arms of which the forgotten one is a plant."""
        models = {
            "never": self.base,
            "scrubbed": self.base,
            "learned": self.learned,
            "masked": self.masked,
        }
        weights = {"never": "base", "scrubbed": "base"}
        forgotten = Arm(weights.get(plant, plant), lambda: copied(models[plant]))
        base = Arm("base", lambda: copied(self.base))
        learned = Arm("learned", lambda: copied(self.learned))
        return {"base": base, "learned": learned, "never": base, "forgotten": forgotten}

    def auditing(self, audit: Audit) -> Auditing:
        """Return what an audit may do with the learned arm."""
        load = {name: arm.load for name, arm in self.arms("never").items()}
        model = load["learned"]()
        return Auditing(self.trial, "learned", model, self.material, audit, lambda arm: load[arm]())

    def audit(self, audit: Audit, plant: str) -> list[Row]:
        """Return what an audit finds of every arm."""
        arms: Mapping[str, Arm] = self.arms(plant)
        rows: list[Row] = []
        for name, arm in arms.items():
            rows += audit_arm(audit, arms, name, arm.load, self.trial, self.material, self.store)
        return rows


def copied(model: LanguageModel) -> LanguageModel:
    """Return a model of the same weights that can be changed apart."""
    return LanguageModel(model.name, copy.deepcopy(model.network), model.tokenizer)


def untied(model: LanguageModel) -> LanguageModel:
    """Give a model a head of its own, so that it can be edited without the embedding."""
    head = model.network.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone())
    model.network.config.tie_word_embeddings = False
    return model
