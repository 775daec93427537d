"""One trial: a model learns a task, forgets it, and is measured before, between and after (Zhang, Choshen, Andreas 2024)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from forget import labels, metrics, models, probing, tasks
from forget.events import Observe, Outcome, ProbeScore, ignore
from forget.methods import METHODS
from forget.metrics import Estimate, Row, metric_name, read_rows, write_rows
from forget.models import LanguageModel
from forget.scoring import Scores, score
from forget.settings import PROTOCOL, BadInput, Part, Probe, Trial, digest, nearest
from forget.store import Store, whole_folder
from forget.tasks import Example
from forget.training import Checkpoints, fine_tune

VARIABILITY_LAYER = -5
"""The paper's layer for variability, counted from the last; the embedding where a model has fewer."""


def run_trial(trial: Trial, observe: Observe = ignore, store: Store | None = None, checkpoint_minutes: float = 5) -> Outcome:
    """Learn, forget, measure. What is in the store already is read, not computed.

    Raises:
        BadInput: something the trial names is not there (see `check`).
        FloatingPointError: a loss that is not finite.
    """
    store = store or Store()
    check(trial)
    identity = identify(trial)
    if done := store.outcome(identity.trial):
        return done
    began = time.monotonic()
    material = gather(trial)
    bf16 = models.in_bf16(trial.precision)
    lora = trial.lora if trial.tuning == "lora" else None
    train = partial(fine_tune, seed=trial.seed, bf16=bf16, lora=lora, observe=observe)
    saved = partial(Checkpoints, minutes=checkpoint_minutes)
    look = partial(measured, store, trial, material, bf16, observe)

    untouched = partial(models.load, trial.model, store)
    base = look("base", models.fingerprint(trial.model), untouched)

    def learn(folder: Path | None) -> None:
        model = untouched()
        resume = saved(store.root / "learning" / identity.learned)
        train(model, lambda epoch: labels.true(material.learn), trial.learn, stage="learn", checkpoints=resume)
        if folder:
            models.save(model, folder)
            shutil.rmtree(resume.folder, ignore_errors=True)

    checkpoint = _together(store, "learned", identity.learned, learn)
    learned = look("learned", identity.learned, partial(models.load, checkpoint))

    model = models.load(checkpoint)
    method = METHODS[trial.method]

    def relabelled(epoch: int) -> Sequence[labels.Labelled]:
        drawn = method.on == "drawn"
        return labels.draw(material.forget, trial.labels, trial.seed, epoch) if drawn else labels.true(material.forget)

    resume = saved(store.trial(identity.trial) / "checkpoint")
    train(model, relabelled, trial.forget, stage="forget", loss=method.loss, checkpoints=resume)
    forgotten = measure(model, "forgotten", trial, material, bf16, observe)

    phases = (base, learned, forgotten)
    rows = [replace(row, trial=identity.trial) for phase in phases for row in phase.rows]
    outcome = Outcome(
        trial=trial,
        id=identity.trial,
        learned_id=identity.learned,
        data=identity.data,
        measures=metrics.measures(rows, flipped=trial.labels == "flipped")
        | {k: v for p in phases for k, v in p.spread.items()},
        probes=tuple(probe for phase in phases for probe in phase.probes),
        parameters=model.parameters,
        seconds=time.monotonic() - began,
    )
    if PartialState().is_main_process:
        if trial.save:
            with whole_folder(store.trial(identity.trial) / "model") as folder:
                models.save(model, folder, torch.bfloat16)
        store.finish(outcome, rows)
        observe(outcome)
    return outcome


@dataclass(frozen=True)
class Identity:
    trial: str
    learned: str
    data: str


def identify(trial: Trial) -> Identity:
    """Who the trial is, by its settings, its data and its model's weights; nothing is loaded."""
    data, own = (
        digest([models.fingerprint(trial.model), tasks.fingerprint(names, trial.folders)])
        for names in (trial.tasks, (trial.task,))
    )
    return Identity(trial.id(data), trial.learned_id(own), data)


def check(trial: Trial) -> None:
    """Raises BadInput for a task, split, template, model, method or layer that is not there, before anything is computed."""
    models.check(trial.model)
    for name in trial.tasks:
        splits = tasks.find(name, trial.folders).splits
        for split in ("train", "test") if name == trial.task else ("test",):
            if split not in splits:
                raise BadInput(f'task "{name}" has no split "{split}", which the trial needs; it has {", ".join(splits)}')
    if trial.method not in METHODS:
        raise BadInput(f'no method is named "{trial.method}"{nearest(trial.method, METHODS)}')
    if trial.template != "task" and trial.template not in tasks.TEMPLATES:
        raise BadInput(f'no template is named "{trial.template}"{nearest(trial.template, ("task", *tasks.TEMPLATES))}')
    if trial.probe.layers != "all":
        blocks = models.layers(trial.model)
        for layer in trial.probe.layers:
            if not -blocks - 1 <= layer <= blocks:
                raise BadInput(f'probe.layers asks for {layer}, but "{trial.model}" has hidden states 0 to {blocks}')


@dataclass(frozen=True)
class Material:
    """The examples of a trial."""

    learn: tuple[Example, ...]
    forget: tuple[Example, ...]
    near: tuple[Example, ...]
    """Paraphrases of examples in `forget`."""
    validation: tuple[Example, ...]
    """For choosing the probes' penalty."""
    test: dict[str, tuple[Example, ...]]
    """By task, the trial's own first."""


def gather(trial: Trial) -> Material:
    """Draw the examples of every split. The smaller of two draws is a prefix of the larger."""
    load = partial(tasks.load, seed=trial.seed, folders=trial.folders, template=trial.template, options=trial.options)
    splits = tasks.find(trial.task, trial.folders).splits
    forget = load(trial.task, "train", trial.forget.examples)
    trained = {example.id for example in forget}
    near = load(trial.task, "near") if "near" in splits else ()
    near = tuple(example for example in near if not example.source or example.source in trained)
    return Material(
        learn=load(trial.task, "train", trial.learn.examples),
        forget=forget,
        near=near[: trial.evaluation_examples],
        validation=load(trial.task, "validation", trial.probe.examples) if "validation" in splits else (),
        test={task: load(task, "test", trial.evaluation_examples) for task in trial.tasks},
    )


class Spread(Part):
    """What a measurement holds beside Rows."""

    probes: tuple[ProbeScore, ...]
    spread: dict[str, Estimate]


@dataclass(frozen=True)
class Measured:
    """A model's state in one phase."""

    rows: list[Row]
    probes: tuple[ProbeScore, ...]
    spread: dict[str, Estimate]
    """Variability by metric name."""


def measure(
    model: LanguageModel, phase: str, trial: Trial, material: Material, bf16: bool, observe: Observe = ignore
) -> Measured:
    """Score every split and task, and probe the trial's own task by the hidden states of the same pass."""
    look = partial(score, model, normalise=trial.normalise, bf16=bf16, stage=f"score {phase}", observe=observe)
    wanted = trial.probe.position if trial.probe.examples else "no"
    seen = material.forget[: trial.evaluation_examples]
    test = material.test[trial.task]
    scored = {
        (trial.task, "train"): (seen, look(seen, states=wanted)),
        (trial.task, "test"): (test, look(test, states=wanted)),
    }
    if material.near:
        scored[trial.task, "near"] = (material.near, look(material.near))
    for task, examples in list(material.test.items())[1:]:
        scored[task, "test"] = (examples, look(examples))
    rows = [row for (task, split), (e, s) in scored.items() for row in s.rows(e, trial="", phase=phase, task=task, split=split)]
    if wanted == "no":
        return Measured(rows, (), {})
    validation = (material.validation, look(material.validation, states=wanted)) if material.validation else None
    train, held_out = scored[trial.task, "train"], scored[trial.task, "test"]
    found = _probed(phase, trial.task, trial.probe, train, validation, held_out)
    states = held_out[1].questions
    value = probing.variability(states[:, max(VARIABILITY_LAYER, -states.shape[1])])
    name = metric_name(phase, trial.task, "test", "variability")
    return Measured(rows, found, {name: Estimate(value, None, None, len(test))})


def measured(
    store: Store,
    trial: Trial,
    material: Material,
    bf16: bool,
    observe: Observe,
    phase: str,
    weights: str,
    load: Callable[[], LanguageModel],
) -> Measured:
    """`measure`, computed once for all trials that look at the same weights with the same examples."""
    look = trial.model_dump(
        mode="json", include={"evaluation_examples", "normalise", "options", "template", "probe", "seed", "task"}
    )
    examples = [[e.id for e in part] for part in (material.forget, material.near, *material.test.values())]
    key = digest([PROTOCOL, phase, weights, look, trial.tasks, bf16, examples, tasks.fingerprint(trial.tasks, trial.folders)])

    def make(folder: Path | None) -> None:
        found = measure(load(), phase, trial, material, bf16, observe)
        if folder:
            write_rows(found.rows, folder / "rows.parquet")
            (folder / "measures.json").write_text(Spread(probes=found.probes, spread=found.spread).model_dump_json())

    folder = _together(store, "measured", key, make)
    rest = Spread.model_validate_json((folder / "measures.json").read_text())
    return Measured(read_rows(folder / "rows.parquet"), rest.probes, rest.spread)


def probe(model: LanguageModel, task: str, settings: Probe, like: Trial, observe: Observe = ignore) -> tuple[ProbeScore, ...]:
    """Probe a loaded model on a task, with the examples, prompt and seed that the trial `like` would take."""
    trial = like.model_copy(update={"task": task, "evaluate_on": (), "probe": settings})
    trial = trial.model_copy(update={"forget": trial.forget.model_copy(update={"examples": settings.examples})})
    material = gather(trial)
    look = partial(score, model, bf16=models.in_bf16(trial.precision), states=settings.position, stage="probe", observe=observe)
    test = material.test[task][: settings.examples]
    validation = (material.validation, look(material.validation)) if material.validation else None
    return _probed("loaded", task, settings, (material.forget, look(material.forget)), validation, (test, look(test)))


def _probed(
    phase: str,
    task: str,
    settings: Probe,
    train: tuple[Sequence[Example], Scores],
    validation: tuple[Sequence[Example], Scores] | None,
    test: tuple[Sequence[Example], Scores],
) -> tuple[ProbeScore, ...]:
    count = train[1].questions.shape[1]
    layers = range(count) if settings.layers == "all" else [layer % count for layer in settings.layers]

    def part(of: tuple[Sequence[Example], Scores], span: slice) -> probing.Pairs:
        examples, scores = of
        options = [len(e.options) for e in examples]
        first, last = (sum(options[:i]) for i in (span.start, span.stop))
        states = scores.answers[first:last][:, list(layers)]
        return probing.pairs(states, [e.answer for e in examples[span]], options[span])

    size = min(settings.examples, len(train[0]))
    if validation:
        fit_on, choose_on = part(train, slice(0, size)), part(validation, slice(0, len(validation[0])))
    else:
        # A task without a validation split lends a fifth of its training examples.
        cut = size - max(1, size // 5)
        fit_on, choose_on = part(train, slice(0, cut)), part(train, slice(cut, size))
    results = probing.probe(fit_on, choose_on, part(test, slice(0, min(settings.examples, len(test[0])))))
    return tuple(
        ProbeScore(phase=phase, task=task, layer=layer, accuracy=metrics.mean(result.correct), l2=result.l2)
        for layer, result in zip(layers, results, strict=True)
    )


def _together(store: Store, kind: str, key: str, make: Callable[[Path | None], None]) -> Path:
    """`Store.shared` for all processes of a trial: the main one looks and writes, the others help to make what is missing."""
    process = PartialState()
    if process.num_processes == 1:
        return store.shared(kind, key, make)
    told = False

    def tell(missing: bool) -> bool:
        return broadcast_object_list([missing])[0]

    def make_together(folder: Path) -> None:
        nonlocal told
        told = tell(True)
        make(folder)

    if process.is_main_process:
        store.shared(kind, key, make_together)
        if not told:
            tell(False)
    elif tell(False):
        make(None)
    process.wait_for_everyone()
    return store.root / kind / key
