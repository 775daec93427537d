"""Forget sets: the examples that the forget stage trains on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from forget.settings.parts import Name, Part

Kind = Literal[
    "own",
    "half",
    "near",
    "other",
    "mix",
    "shuffled",
    "bigram",
    "unigram",
    "paired",
    "windowed",
    "constant",
    "options_only",
]
"""Kinds of forget sets; WORDS says what each is."""

Synthetic = Literal[
    "shuffled", "bigram", "unigram", "paired", "windowed", "constant", "options_only"
]
"""Kinds whose texts are made: everything else of an example is as in the task's own."""

WORDS: dict[Kind, str] = {
    "own": "the task's own examples",
    "half": "those of the task's own examples that half of its templates ask",
    "near": "paraphrases of the task's own examples",
    "other": "texts of another task, behind the task's own options",
    "mix": "examples of several tasks, in given shares",
    "shuffled": "the task's own examples, with the words of each permuted",
    "bigram": "texts of a chain over the task's pairs of words, behind its own options",
    "unigram": "texts of the task's words, drawn one by one, behind its own options",
    "paired": "texts of nested pairs of the task's words, behind its own options",
    "windowed": "texts of the task's words in blocks of eight, behind its own options",
    "constant": "one text for all examples, behind the task's own options",
    "options_only": "the task's own options behind no text at all",
}
"""Words for what each kind is."""


def _flat(shares: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Undo what dots in a task's name become where a spec is read: tables within tables."""
    flat: dict[str, Any] = {}
    for name, share in shares.items():
        if isinstance(share, Mapping):
            flat |= _flat(share, f"{prefix}{name}.")
        else:
            flat[prefix + name] = share
    return flat


def _pairs(shares: Any) -> Any:
    return tuple(_flat(shares).items()) if isinstance(shares, Mapping) else shares


def _in_order(shares: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    # Two orders of the same shares are one mixture.
    return tuple(sorted(shares))


Shares = Annotated[
    tuple[tuple[Name, Annotated[float, Field(ge=0, le=1)]], ...],
    BeforeValidator(_pairs),
    AfterValidator(_in_order),
    PlainSerializer(dict),
]
"""Shares by name: a table in a spec, pairs here."""


class ForgetSet(Part):
    """The examples that the forget stage trains on: a name, or a table with a name."""

    name: Kind = "own"
    task: Name = ""
    """The task whose texts are taken (other)."""
    tasks: Shares = ()
    """Share of each task in the examples (mix), the trial's own among them. All of them are learned
    in equal shares, also one whose share is 0.
    """
    fill: Synthetic | None = None
    """Kind of the made examples of the trial's own task that take the share which `tasks` leave
    (mix): the control that tells less of a task from more of another.
    """

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _complete(self) -> ForgetSet:
        if bool(self.task) != (self.name == "other"):
            raise ValueError(
                'task names the task whose texts are taken: { name = "other", task = "…" } has one,'
                " and no other kind does"
            )
        if bool(self.tasks) != (self.name == "mix") or (self.fill and self.name != "mix"):
            raise ValueError(
                'tasks and fill are of a mixture: { name = "mix", tasks = { "…" = 0.5, "…" = 0.5 }'
                " } has tasks, and no other kind does"
            )
        if self.name == "mix":
            self._check_shares()
        return self

    def _check_shares(self) -> None:
        whole = sum(share for _, share in self.tasks)
        if self.fill is None and abs(whole - 1) > 1e-9:
            raise ValueError(f"the shares of a mixture add up to {whole:g}, not to 1")
        if self.fill is not None and whole > 1 - 1e-9:
            raise ValueError(
                f"the shares of a mixture add up to {whole:g}, which leaves nothing for fill"
            )
        if len(self.tasks) == 1 and (self.fill is None or whole == 0):
            raise ValueError(
                f'a mixture of one kind alone is forget_set = "{self.fill or "own"}": write that'
            )

    @model_serializer(mode="wrap")
    def _short(self, table: SerializerFunctionWrapHandler) -> Any:
        fields = {key: value for key, value in table(self).items() if value}
        return {**fields, "name": self.name} if self.task or self.tasks else self.name

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks of a mixture."""
        return tuple(name for name, _ in self.tasks)

    @property
    def synthetic(self) -> Synthetic | None:
        """The kind of the texts that are made: of all examples, or of those that fill a mixture."""
        for kind in get_args(Synthetic):
            if self.name == kind:
                return cast(Synthetic, kind)
        return self.fill

    def __str__(self) -> str:
        return " ".join([self.name, *self._details()])

    def _details(self) -> Iterable[str]:
        yield from filter(None, [self.task])
        for name, share in self.tasks:
            yield f"{name}={share:g}"
        if self.fill:
            yield f"fill={self.fill}"
