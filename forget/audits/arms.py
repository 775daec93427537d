"""Arms of a trial that audits compare: whose weights they are, and how they are come by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from forget.errors import BadInput
from forget.evaluation.measuring import Evaluation, named
from forget.events import Observe, ignore
from forget.models import loading, sources
from forget.models.holding import Holder
from forget.models.language_model import LanguageModel
from forget.preflight import identify
from forget.results.rows import Row
from forget.settings.identity import digest
from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store
from forget.tasks.draws import Material, gather
from forget.training import stages
from forget.training.stages import Trainer


@dataclass(frozen=True)
class Arm:
    """A model that audits look at."""

    weights: str
    """Their identity: arms of equal weights, of whichever trial, are audited once a store."""
    load: Callable[[], LanguageModel]
    """Gives the model; called only where something of it is not in the store yet."""


@dataclass(frozen=True)
class Made:
    """Maker of a finished trial's models: from the store where they are, anew where they are not.

    What is made anew takes the very steps that the trial took, so nothing of them has to be kept.
    """

    trial: Trial
    material: Material
    store: Store
    observe: Observe = ignore

    def base(self) -> LanguageModel:
        """Load the untouched model."""
        return loading.load(self.trial.model, self.store)

    def learned(self) -> LanguageModel:
        """Load the learned model; learn it, where the store has it no more."""
        trial, evaluation = self.trial, self._evaluation
        holder = Holder(self.store, trial.model, sharded=False)
        checkpoint = stages.learn(
            Trainer(trial, self.store, observe=self.observe),
            identify(trial, self.store).learned,
            self.material.learn,
            holder,
            partial(evaluation.watching, "learn"),
        )
        return holder.model("learned", checkpoint)

    def forgotten(self) -> LanguageModel:
        """Repeat the forget stage, from the learned model where the trial learned.

        Raises:
            BadInput: what is seen on the way is not what the trial saw.
        """
        id = identify(self.trial, self.store).trial
        model = self.learned() if self.trial.taught else self.base()
        seen = self._forget(model, id)
        phase = "forget" if seen else "forgotten"
        if not seen:  # nothing was watched on the way
            seen = self._evaluation.evaluate("forgotten", model).rows
        drawn = stages.drawn(self.trial, self.material.forget)
        repeated = named(id, self.material, drawn, [seen])
        before = [row for row in Trials(self.store).rows(id) if row.phase == phase]
        if before and _unweighed(before) != _unweighed(repeated):
            raise BadInput(
                f"trial {id}: its forget stage, taken again here, gives other numbers than the "
                "trial did, since the machine or a library is another; audit it where it ran, or "
                "remove its folder from the store to run it anew"
            )
        return model

    def scrambled(self) -> LanguageModel:
        """Take the forget stage from the untouched model: the damage without the skill."""
        model = self.base()
        self._forget(model, f"scrambled-{identify(self.trial, self.store).trial}")
        return model

    @property
    def _evaluation(self) -> Evaluation:
        return Evaluation(self.trial, self.material, self.store, self.observe)

    def _forget(self, model: LanguageModel, key: str) -> list[Row]:
        """Take the forget stage; the state of an earlier try is not gone on from."""
        state = f"trials/{key}/checkpoint"
        self.store.delete(state)
        drawn = stages.drawn(self.trial, self.material.forget)
        watching = self._evaluation.watching("forget", model, drawn)
        trainer = Trainer(self.trial, self.store, math.inf, self.observe)
        try:
            material = self.material
            return stages.forget(trainer, key, material.forget, material.retain, model, watching)
        finally:
            self.store.delete(state)


def _unweighed(rows: Sequence[Row]) -> list[Row]:
    """Return Rows without the weights of examples, which were not always kept."""
    return [replace(row, value=None) for row in rows]


def arms(
    trial: Trial,
    store: Store,
    never: Sequence[str] = (),
    more: Sequence[str] = (),
    observe: Observe = ignore,
    material: Material | None = None,
) -> dict[str, Arm]:
    """Return the arms of a trial by name, those that trials share first.

    Args:
        trial: a finished one.
        store: has its results.
        never: tasks of which the arm "never" learns the first that is not the trial's own; without
            any it is the untouched model.
        more: arms to add, "scrambled", which forgets without having learned, and "again", which
            learned as the learned one did but for the order of the examples.
        observe: receives the events of what is made anew.
        material: the trial's examples, where they are at hand.

    Of a trial that learns nothing the untouched model is the learned one, too: what may come back
    is of its pretraining. There is no model without it, so it stands for the arm "never" as well,
    and R is missing.

    Raises:
        BadInput: `never` names the trial's own task alone.
    """
    made = Made(trial, material or gather(trial), store, observe)
    identity = identify(trial, store)
    base = Arm(sources.fingerprint(trial.model, store), made.base)
    found = {
        "base": base,
        "learned": Arm(identity.learned, made.learned),
        "never": base,
        "forgotten": Arm(identity.trial, made.forgotten),
    }
    if not trial.taught:
        return found | {"learned": base}
    if never:
        found["never"] = _taught_another(trial, store, never, observe)
    if "scrambled" in more:
        found["scrambled"] = Arm(digest(["scrambled", identity.trial]), made.scrambled)
    if "again" in more:
        found["again"] = _learned_by(
            trial.model_copy(update={"member": trial.member + 1}), store, observe
        )
    return found


def _taught_another(trial: Trial, store: Store, never: Sequence[str], observe: Observe) -> Arm:
    """Return the arm that learned another task with the same settings: the format, not the skill.

    It is the learned model of a trial of that task, which sweeps over tasks have anyway.
    """
    others = [task for task in never if task != trial.task]
    if not others:
        raise BadInput(
            f'never = ["{trial.task}"] names the task that the trial learns: '
            "the arm never taught it learns another one"
        )
    return _learned_by(
        trial.model_copy(update={"task": others[0], "evaluate_on": ()}), store, observe
    )


def _learned_by(other: Trial, store: Store, observe: Observe) -> Arm:
    """Return the arm that is the learned model of another trial."""
    return Arm(identify(other, store).learned, Made(other, gather(other), store, observe).learned)


def order(found: Mapping[str, Arm]) -> list[str]:
    """Order arms so that equal weights follow each other and are loaded once."""
    weights = list(dict.fromkeys(arm.weights for arm in found.values()))
    return sorted(found, key=lambda name: weights.index(found[name].weights))
