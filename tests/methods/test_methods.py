"""Every method in the catalogue, on the tiny model: what a file in the folder gets with no edit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, debug_launcher
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file

from forget.errors import BadInput
from forget.evaluation.scoring import score
from forget.events import Event, Step
from forget.methods.catalogue import METHODS, method
from forget.methods.objective import Method
from forget.models import batches, language_model
from forget.models.language_model import LanguageModel
from forget.models.ways import EQUAL, PACKED, ROWS, Way
from forget.preflight import settled
from forget.results.metrics import accuracy
from forget.results.rows import Row
from forget.settings.parts import Choice, Forgetting, Stage
from forget.settings.sweep import overlay
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tasks import labels
from forget.tasks.prose import chunks
from forget.tasks.task import Example
from forget.training.attack import Attack, project
from forget.training.checkpoints import Checkpoints
from forget.training.gradients import Gradients
from forget.training.items import layouts, packed
from forget.training.loop import fine_tune
from forget.training.passes import Pass
from forget.training.stages import terms, work
from forget.training.terms import Cycled, Steps, Term
from forget.training.watching import Watching

FAST = ("npo", "uniform", "pdu", "rmu")
"""Methods of the plain tests: of each kind of need and unit one."""

VARIANTS: dict[str, Choice] = {name: Choice(name=name) for name in METHODS} | {
    "random_labels, sam": Choice(name="random_labels", sam=0.01),
    "unlikelihood, lat": Choice(name="unlikelihood", lat=0.3),
    "layered npo": Choice(name="layered", of="npo", folds=3),
    "df_mcq options": Choice(name="df_mcq", flatten="options"),
}
"""Every method, and what a parameter makes another one."""


def methods(fast: Sequence[str]) -> Any:
    """Parametrise over the methods; those that are not fast are for the slow run."""
    cases = []
    for name in VARIANTS:
        cases.append(pytest.param(name, marks=() if name in fast else pytest.mark.slow))
    return pytest.mark.parametrize("name", cases)


def questions(kind: str, n: int) -> list[Example]:
    """Return n examples of a task: is the letter a vowel, or is the digit even?"""
    letters, words = {
        "vowels": ("abecidofugah", (" yes", " no")),
        "even": ("0123456789", (" up", " down")),
    }[kind]
    made = []
    for number in range(n):
        letter = letters[number % len(letters)]
        answer = number % 2
        made.append(
            Example(f"{kind}-{number}", f"{kind} {number % 7} {letter}", words, answer, task=kind)
        )
    return made


FORGOTTEN, RETAINED = questions("vowels", 36), questions("even", 30)
LEARN = Stage(epochs=12, batch=11, lr=1e-2)
NOWHERE = Store(Path("/nowhere"))
"""A store that nothing is looked for in, since the tiny model is made."""
FORGET = Forgetting(epochs=12, batch=12, lr=1e-3)
"""36 steps."""


RATES = {"rmu": 1e-2}
"""Rates of methods that train few of the weights."""


@functools.cache
def learned() -> Mapping[str, torch.Tensor]:
    """Return the weights of a model that has learned both tasks."""
    model = language_model.tiny()
    both = [*FORGOTTEN, *RETAINED]
    fine_tune(model, [Term(lambda _: labels.true(both))], LEARN, stage="learn", seed=0)
    return {name: weight.clone() for name, weight in model.network.state_dict().items()}


def start() -> LanguageModel:
    model = language_model.tiny()
    model.network.load_state_dict(learned())
    return model


def trial(name: str, **fields: object) -> Trial:
    stage = FORGET.model_copy(update={"lr": RATES.get(name, FORGET.lr)})
    plain = Trial(task="vowels", model="tiny", precision="fp32", forget=stage)
    choice = {"method": VARIANTS[name].model_dump(), "retain": "none", **fields}
    return settled(overlay(plain, choice))


def forgets(
    one: Trial, model: LanguageModel, retained: Sequence[Example] = (), **options: object
) -> Method:
    """Make a model forget as a trial says."""
    how = method(one.method)
    if how.change(work(one, model, FORGOTTEN, NOWHERE)):
        return how
    stage = one.forget.model_copy(update={"epochs": how.epochs(one.forget.epochs)})
    of = terms(one, how, FORGOTTEN, retained)
    fine_tune(model, of, stage, stage="forget", seed=0, method=how, **options)  # type: ignore[arg-type]
    return how


def truth(model: LanguageModel, examples: Sequence[Example]) -> float:
    """Return the mean probability of the true options."""
    scores = score(model, examples)
    found = [row[e.answer] for row, e in zip(scores.logprobs, examples, strict=True)]
    return torch.tensor(found).exp().mean().item()


def skill(model: LanguageModel, examples: Sequence[Example]) -> float:
    rows = score(model, examples).rows(examples, trial="", phase="", task="", split="test")
    value = accuracy(rows).value
    assert value is not None
    return 2 * value - 1


@methods(FAST)
def test_a_method_lowers_the_truths_probability(name: str) -> None:
    model = start()
    before = truth(model, FORGOTTEN)
    assert before > 0.9
    forgets(trial(name), model)
    after = truth(model, FORGOTTEN)
    assert after < before - 0.05


@methods(FAST)
def test_a_heavy_retain_set_keeps_its_skill(name: str) -> None:
    model = start()
    before = skill(model, RETAINED)
    assert before > 0.9
    one = trial(name, retain={"tasks": ["even"], "weight": 10})
    how = forgets(one, model, RETAINED)
    if how.trains:
        assert skill(model, RETAINED) >= 0.9 * before


def gradient(name: str, budget: int, way: Way = PACKED) -> dict[str, torch.Tensor]:
    """Return the gradients of a step over both terms, in micro-batches of so many tokens."""
    model, one = start(), trial(name, retain={"tasks": ["even"], "weight": 2.0})
    how = method(one.method)
    forgotten, retained, *_ = terms(one, how, FORGOTTEN, RETAINED)
    steps = Steps(forgotten, one.forget, "forget", 0)
    attack = Attack(model, how.lat) if how.lat else None
    passes = [
        Pass(forgotten, steps, model, False, len(steps), attack),
        Pass(retained, Cycled(retained, steps, 0), model, False, len(steps)),
    ]
    for term in passes:
        term.way = way
    accelerator = Accelerator(cpu=True)
    optimizer = accelerator.prepare(torch.optim.SGD(model.network.parameters(), lr=1.0))
    Gradients(accelerator, model.answers, passes, optimizer, how.sam).of(0, draws=1, budget=budget)
    weights = model.network.named_parameters()
    return {name: p.grad.clone() for name, p in weights if p.grad is not None}


@methods(("npo", "uniform", "rmu"))
def test_micro_batches_have_the_gradient_of_the_whole(name: str) -> None:
    if not METHODS[VARIANTS[name].name].trains:
        pytest.skip("it trains nothing")
    whole, parted = gradient(name, 10_000), gradient(name, 40)
    assert whole.keys() == parted.keys()
    for key, slope in whole.items():
        torch.testing.assert_close(slope, parted[key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["uniform", "dpo", "npo", "df_mcq options"])
def test_a_model_that_reads_an_option_a_row_has_the_same_gradient(name: str) -> None:
    beside, rows = gradient(name, 512), gradient(name, 512, ROWS)
    for key, slope in beside.items():
        torch.testing.assert_close(slope, rows[key], rtol=1e-6, atol=2e-6)


def test_options_of_several_lengths_are_refused_where_texts_have_one() -> None:
    example = Example("e", "a", (" yes", " no"), 0)
    (one,) = batches.encode([example], language_model.tiny().tokenizer, 100)
    item = packed(0, one, labels.true([example])[0], "all")
    with pytest.raises(BadInput, match="compares the options of an example"):
        list(layouts(EQUAL, [item], 512))
    assert len(list(layouts(EQUAL, [replace(item, encoded=one.only(0))], 512))) == 1


class Killed(KeyboardInterrupt):
    pass


def kill_at(step: int) -> Callable[[Event], None]:
    def observe(event: Event) -> None:
        if isinstance(event, Step) and event.step == step:
            raise Killed

    return observe


@methods(["pdu", "layered npo"])
def test_a_method_that_goes_on_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    one = trial(
        name,
        retain={"tasks": ["even"], "loss": "kl"},
        forget=FORGET.model_copy(update={"epochs": 3}),
    )
    if not method(one.method).trains:
        pytest.skip("it trains nothing")
    whole, parted = start(), start()
    forgets(one, whole, RETAINED)
    kept = Checkpoints(Store(tmp_path), "state", minutes=60)
    with pytest.raises(Killed):
        forgets(one, parted, RETAINED, checkpoints=kept, observe=kill_at(4))
    again = start()
    forgets(one, again, RETAINED, checkpoints=kept)
    for key, weight in whole.network.state_dict().items():
        assert torch.equal(weight, again.network.state_dict()[key]), key


def in_one_of_two(name: str, folder: Path) -> None:
    # The launcher forks: what this process knows of itself is that it is alone.
    AcceleratorState._reset_state(reset_partial_state=True)
    model = start()
    forgets(shared(name), model, RETAINED)
    number = AcceleratorState().process_index
    save_file(dict(model.network.named_parameters()), folder / f"{number}.safetensors")


def shared(name: str) -> Trial:
    """Return a trial of one epoch in batches of five, which two processes cannot halve."""
    stage = FORGET.model_copy(update={"epochs": 1, "batch": 5, "warmup": 0.0})
    return trial(name, retain={"tasks": ["even"], "loss": "js"}, forget=stage)


@methods(["npo"])
def test_two_processes_forget_as_one_does(name: str, tmp_path: Path) -> None:
    if not METHODS[VARIANTS[name].name].trains:
        pytest.skip("it trains nothing")
    alone = start()
    forgets(shared(name), alone, RETAINED)
    debug_launcher(in_one_of_two, (name, tmp_path), 2)
    first, second = (load_file(tmp_path / f"{number}.safetensors") for number in (0, 1))
    for key, weight in alone.network.named_parameters():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], weight.detach(), rtol=0, atol=2e-4)


def test_the_loss_of_each_term_is_told_apart() -> None:
    steps: list[Step] = []

    def observe(event: Event) -> None:
        if isinstance(event, Step):
            steps.append(event)

    one = trial(
        "npo",
        retain={"tasks": ["even"], "weight": 3.0},
        forget=FORGET.model_copy(update={"epochs": 1}),
    )
    forgets(one, start(), RETAINED, observe=observe)
    for step in steps:
        assert step.losses.keys() == {"forget", "retain"}
        assert step.loss == pytest.approx(step.losses["forget"] + 3 * step.losses["retain"])
    alone: list[Step] = []
    forgets(
        trial("npo", forget=one.forget),
        start(),
        observe=lambda e: alone.append(e) if isinstance(e, Step) else None,
    )
    assert [step.losses for step in alone] == [{}] * len(steps)


def test_a_retain_set_of_no_weight_changes_nothing() -> None:
    stage = FORGET.model_copy(update={"epochs": 1})
    with_it, without = start(), start()
    forgets(
        trial("npo", forget=stage, retain={"tasks": ["even"], "weight": 0.0}), with_it, RETAINED
    )
    forgets(trial("npo", forget=stage), without)
    for key, weight in without.network.state_dict().items():
        torch.testing.assert_close(weight, with_it.network.state_dict()[key], rtol=0, atol=1e-6)


def test_all_of_a_task_vector_gone_is_the_untouched_model() -> None:
    model = start()
    forgets(trial("task_vector"), model)
    for key, weight in language_model.tiny().network.named_parameters():
        assert torch.equal(weight, dict(model.network.named_parameters())[key])
    half = start()
    forgets(settled(overlay(trial("task_vector"), {"method.alpha": 0.5})), half)
    assert truth(start(), FORGOTTEN) > truth(half, FORGOTTEN) > truth(model, FORGOTTEN)


def test_rmu_trains_the_last_layers_of_the_blocks_before_its_layer_alone() -> None:
    model = start()
    forgets(trial("rmu", forget=FORGET.model_copy(update={"epochs": 1})), model)
    now = dict(model.network.named_parameters())
    moved = {name for name, weight in now.items() if not torch.equal(weight, learned()[name])}
    assert moved == {"model.layers.0.mlp.down_proj.weight"}
    assert all(weight.requires_grad for weight in now.values())


def test_an_attack_is_within_its_radius_and_raises_the_loss() -> None:
    far = project(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 2)
    torch.testing.assert_close(far, torch.tensor([[1.2, 1.6], [0.3, 0.4]]))
    model = start()
    encoded = batches.encode(FORGOTTEN[:4], model.tokenizer, 100)
    items = [packed(i, one, labels.true(FORGOTTEN)[i], "true") for i, one in enumerate(encoded)]
    (layout,) = layouts(PACKED, items, 512)
    batch = PACKED.pack(layout.rows, 0)
    rows, columns = layout.positions()
    prompts = torch.zeros(batch.ids.shape, dtype=torch.bool)
    prompts[rows, columns] = ~layout.answers()

    def loss() -> torch.Tensor:
        logits = model.answers(batch)[batch.predictor_of]
        return torch.nn.functional.cross_entropy(logits, batch.targets)

    before = loss().item()
    with Attack(model, 0.3).on(prompts, loss):
        attacked = loss().item()
    assert attacked > 1.05 * before
    assert loss().item() == before


def test_folds_are_forgotten_one_after_the_other() -> None:
    how = method(Choice(name="layered", of="grad_diff", folds=3))
    assert "retain" in how.asks
    parts = how.parts(10, epochs=2, seed=0)
    assert parts is not None
    sizes = [len(parts(epoch)) for epoch in range(how.epochs(2))]
    assert sizes == [4, 4, 7, 7, 10, 10]
    assert set(parts(0)) < set(parts(2)) < set(parts(5)) == set(range(10))


def test_sharpness_takes_the_gradient_uphill() -> None:
    """The loss is half x'Ax with A = diag(1, 2), at (3, 4) and 0.05 uphill."""

    class Bowl(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))

        def forward(self) -> torch.Tensor:
            return 0.5 * (torch.tensor([1.0, 2.0], dtype=torch.float64) * self.x**2).sum()

    bowl = Bowl()
    accelerator = Accelerator(cpu=True)
    optimizer = accelerator.prepare(torch.optim.SGD(bowl.parameters(), lr=1.0))
    gradients = Gradients(accelerator, bowl, [], optimizer, rho=0.05)
    bowl().backward()
    with gradients.uphill():
        bowl().backward()
    assert bowl.x.tolist() == [3.0, 4.0]
    expected = torch.tensor([3.017556, 8.093632], dtype=torch.float64)
    assert bowl.x.grad is not None
    torch.testing.assert_close(bowl.x.grad, expected, rtol=0, atol=5e-6)


def test_sharpness_moves_other_weights() -> None:
    still, moved = start(), start()
    stage = FORGET.model_copy(update={"epochs": 1})
    forgets(trial("random_labels", forget=stage), still)
    forgets(trial("random_labels, sam", forget=stage), moved)
    after = moved.network.state_dict()
    assert any(not torch.equal(w, after[key]) for key, w in still.network.state_dict().items())


@pytest.mark.parametrize("name", ["discrim", "weighted"])
def test_a_look_keeps_the_weight_of_each_trained_example(name: str) -> None:
    one = trial(name, noise=0.5, forget=FORGET.model_copy(update={"epochs": 2}))

    def look(split: str, examples: Sequence[Example], model: LanguageModel, step: int) -> list[Row]:
        found = score(model, examples)
        rows = found.rows(examples, trial="", phase="forget", task="vowels", split=split)
        return [replace(row, step=step) for row in rows]

    model = start()
    watching = Watching(
        points=1,
        held_out=functools.partial(look, "test", FORGOTTEN[:3], model),
        trained=functools.partial(look, "train", FORGOTTEN, model),
    )
    how = method(one.method)
    of = terms(one, how, FORGOTTEN, ())
    seen = fine_tune(model, of, one.forget, stage="forget", seed=0, method=how, watching=watching)
    held = {FORGOTTEN[place].id for place in how.holds(len(FORGOTTEN))}
    trained = [row for row in seen if row.split == "train" and row.example not in held]
    weights = [row.value for row in trained if row.value is not None]
    assert len(weights) == len(FORGOTTEN) - len(held)
    assert len(set(weights)) > 1
    assert {row.value for row in seen if row not in trained} == {None}
    if name == "discrim":
        # What is fit already weighs more.
        losses = [-row.logprobs[label] for row, label in zip(trained, given(one), strict=True)]
        assert torch.tensor([losses, weights]).corrcoef()[0, 1] < -0.5


def given(one: Trial) -> list[int]:
    """Return the label that each example is trained on."""
    return [
        labelled.label for labelled in terms(one, method(one.method), FORGOTTEN, ())[0].labelled(0)
    ]


def test_neutral_text_that_is_retained_is_trained_on() -> None:
    texts = chunks(6)
    stage = FORGET.model_copy(update={"epochs": 2, "lr": 3e-3})

    def read(retained: Sequence[Example]) -> float:
        model = start()
        forgets(trial("grad_diff", forget=stage, retain={"text": True}), model, retained)
        return sum(row[0] for row in score(model, texts).logprobs)

    before = sum(row[0] for row in score(start(), texts).logprobs)
    assert read(texts) > max(before, read(()))
