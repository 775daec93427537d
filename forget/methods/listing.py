"""The catalogue of methods in words: the list of the command, and the page of the docs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from forget.methods.catalogue import COMMON, METHODS
from forget.methods.objective import Method, Need, Packed
from forget.settings.parts import shown_value

NEEDS: dict[Need, str] = {
    "retain": "a retain set",
    "sums": "the answers of the model before",
    "logits": "the distributions of the model before",
    "states": "hidden states",
    "learned": "a model that has learned",
}
"""Words for what a method asks for."""

TRAINS_ON: dict[Packed, str] = {
    "drawn": "drawn labels",
    "true": "the truth",
    "wrong": "the truth and a wrong option",
    "all": "all options",
}
"""Words for the options that a method is given."""

HEAD = ("method", "trains on", "needs", "cost", "parameters", "source")

PAGE = """\
# Methods of forgetting

`forget methods` lists them; `forget methods --page` wrote this page. A spec names one alone or with
its parameters, `method = "npo"` or `method = {{ name = "npo", beta = 0.05 }}`, and may have several
on an axis. Every method has `weight`, that of its loss beside a retain set's; `sam`, the length of
a step of the weights uphill at whose end its gradient is taken; and `lat`, the size of a change of
the prompts' hidden states, the worst one, under which it is taken. Cost is in passes of a
step, 1 for random labels; a retain set costs as much again, `sam` doubles it, `lat` takes six times
as much. A method that needs a retain set runs with `[base.retain]` or, knowingly without, with
`retain = "none"` ([method.md](method.md#retain-sets)). What each takes of a small model at which
rate is measured: [results](results/README.md#rates-of-the-other-methods).

{table}

{summaries}
"""


def rows() -> Iterator[tuple[str, ...]]:
    """Yield a line of the list for each method, in the order of `HEAD`."""
    for name, kind in METHODS.items():
        example = kind()
        needs = ", ".join(NEEDS[need] for need in NEEDS if need in example.asks)
        yield (
            name,
            TRAINS_ON[example.trains_on] if example.cost else "nothing",
            needs or "nothing",
            f"{example.passes:g}",
            ", ".join(_parameters(kind)) or "none",
            kind.source,
        )


def page() -> str:
    """Return the page of the docs, in Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *rows()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    told = [f"- **{name}**: {_summary(kind)}" for name, kind in METHODS.items()]
    return PAGE.format(table=table, summaries="\n".join(told))


def _parameters(kind: type[Method]) -> Iterator[str]:
    """Yield each parameter of a method's own with its default."""
    for name, field in kind.model_fields.items():
        default: Any = field.default
        if name in COMMON and default == Method.model_fields[name].default:
            continue
        value = getattr(default, "name", default)
        yield f"{name} = {shown_value(value).strip()}"


def _summary(kind: type[Method]) -> str:
    """Return the first paragraph of a method's docstring, in one line."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())
