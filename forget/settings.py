"""What a study is: `Trial`, `Sweep` and their parts, read from TOML, frozen, refused with one sentence where they are wrong."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import math
import os
import reprlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

PROTOCOL = 4
"""Version of what a trial does: raised when a change of the code changes a trial's numbers, so that they are computed anew."""


TRIALS = 100_000
"""Of one sweep, at most: to plan 10,000 takes seconds."""

DEPTH = 20
"""Tables within tables in a file, at most; a spec needs four."""


class BadInput(ValueError):
    """Input that the user can mend. Its text is one sentence: what is wrong, where, and what would be right."""


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean "x"?', or, where nothing is near, the known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f'; did you mean "{close[0]}"?' if close else f"; known are: {', '.join(names)}"


def digest(value: object) -> str:
    """16 hex digits over the JSON of `value`: the identity of settings and data everywhere."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def shown(value: Any) -> str:
    """A value as a sentence quotes it: what is long is cut in the middle."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    return short.repr(value)


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{shown(text)} holds a character that cannot be printed")
    return text


Name = Annotated[str, Field(max_length=500), AfterValidator(_printable)]
"""Of a task or a model. It is written to files, terminals, pages and servers, and may come from a colleague's run."""
Names = Annotated[tuple[Name, ...], BeforeValidator(_as_tuple)]

Count = Annotated[int, Field(ge=1, le=10**9)]
"""The end is where a misprint is surer than an intention."""


def _all_or_numbers(value: Any) -> Any:
    # By hand: pydantic's words for a union name its members, not the key.
    if value != "all" and not (isinstance(value, (list, tuple)) and all(isinstance(layer, int) for layer in value)):
        raise ValueError(f'should be "all" or a list of whole numbers, not {shown(value)}')
    return value


Layers = Annotated[Literal["all"] | tuple[int, ...], BeforeValidator(_all_or_numbers)]

Position = Literal["first", "last", "mean"]
"""Where an answer is read: at its first token, at its last, or on average over its tokens."""


class Part(BaseModel):
    # JSON, which outcomes are kept in, has no word for infinity.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Stage(Part):
    """One fine-tuning. The paper leaves epochs, batch, optimiser and schedule open (paper.md, [I])."""

    examples: Count = 1000
    """Training examples; the whole split where it is smaller (paper: min(1000, train size))."""
    epochs: Count = 2
    lr: float = Field(1e-4, gt=0, lt=1)
    """Peak learning rate of AdamW (paper: 1e-4 for forgetting)."""
    batch: Count = 16
    """Examples a step, over all processes of the trial."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """The rate after warm-up."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the rate rises from 0."""
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""


class Lora(Part):
    """Low-rank adapters on every linear layer but the head (Hu et al. 2021), merged into the weights after each stage."""

    rank: Count = 16
    alpha: Count = 32
    dropout: float = Field(0.0, ge=0, lt=1)


class Probe(Part):
    """Linear probes that tell right from wrong (question, answer) pairs by the hidden state, layer by layer."""

    layers: Layers = "all"
    """Hidden states to probe; 0 is the embedding, n the output of block n; negative counts from the last."""
    positions: Annotated[tuple[Position, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = ("last", "mean")
    """Where the answer is read."""
    examples: int = Field(400, ge=0, le=10**9)
    """Examples of the train and of the test split, two (question, answer) pairs each; 0 leaves the probes out."""
    control: bool = True
    """Fit each probe on shuffled labels as well: what it reads then is not in the states (Hewitt and Liang 2019)."""


class Watch(Part):
    """Looks at the model while it learns and forgets, for the order in which examples come and go."""

    points: int = Field(4, ge=0, le=1000)
    """Evenly spaced points within each stage, its ends aside; 0 leaves them out."""
    examples: Count = 100
    """Held-out examples scored at each point."""


class Trial(Part):
    """A model learns a task, forgets it, and is measured. Two trials with equal fields give equal Rows."""

    task: Name
    model: Name
    method: Name = "random_labels"
    """The forget loss, a name in forget.methods.METHODS."""
    labels: Literal["random", "random_each_epoch", "flipped"] = "random"
    """Labels in forgetting: drawn once per (seed, example), drawn anew each epoch, or the wrong option."""
    learn: Stage = Stage()
    forget: Stage = Stage()
    tuning: Literal["full", "lora"] = "full"
    lora: Lora = Lora()
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast with fp32 weights; auto: bf16 where the hardware computes in it."""
    evaluate_on: Names = ()
    """Other tasks whose test split is scored before and after; the trial's own task always is."""
    evaluation_examples: Count = 800
    """Examples scored of each split."""
    options: Literal["two", "all"] = "two"
    """two: the true option and one random distractor (the paper's binarised tasks, chance 0.5)."""
    normalise: Literal["none", "tokens", "bytes"] = "none"
    """An option's score is the sum of its tokens' log-probabilities, divided by nothing, its tokens or its bytes."""
    template: Name = "task"
    """The prompt: the task's own wording, or a name in forget.tasks.TEMPLATES."""
    probe: Probe = Probe()
    watch: Watch = Watch()
    seed: int = Field(0, ge=0, lt=2**63)
    folders: Names = ()
    """Folders of the user's tasks (see forget.tasks.files)."""
    save: bool = True
    """Log and register the forgotten model."""

    @model_validator(mode="before")
    @classmethod
    def _dotted(cls, fields: Any) -> Any:
        return nested(fields) if isinstance(fields, Mapping) else fields

    @property
    def tasks(self) -> tuple[str, ...]:
        """The trial's own task first, then the others it is measured on."""
        return tuple(dict.fromkeys((self.task, *self.evaluate_on)))

    def id(self, data: str) -> str:
        """Identity of the answer. `data` is the fingerprint of the model and all `tasks`."""
        fields = self.model_dump(mode="json", exclude={"folders", "save"} | ({"lora"} if self.tuning == "full" else set()))
        return digest({"protocol": PROTOCOL, "data": data, **fields})

    def learned_id(self, data: str) -> str:
        """Identity of the learned checkpoint, which trials share. `data` is the fingerprint of the model and its own task."""
        names = {"task", "model", "learn", "tuning", "precision", "options", "template", "seed", "watch", "normalise"}
        fields = self.model_dump(mode="json", include=names | ({"lora"} if self.tuning == "lora" else set()))
        return digest({"protocol": PROTOCOL, "data": data, **fields})


class Resources(Part):
    """What a trial takes and what the sweep may spend; none of it changes a number."""

    cpus: float = Field(1, ge=0.001, le=10**6)
    """CPU cores a process of a trial."""
    gpus: float = Field(0, ge=0, le=10**6)
    """GPUs a process of a trial."""
    workers: Count = 1
    """Processes a trial."""
    shard: bool = False
    """Share each model out over a trial's processes, for one that does not fit a single GPU; otherwise each holds it whole."""
    concurrent: Count | None = None
    """Trials at once at most; by default as many as fit the machine."""
    retries: int = Field(2, ge=0, le=10**9)
    """How often a failed trial starts again from its last checkpoint."""
    checkpoint_minutes: float = Field(5, ge=0)
    """Minutes of training between checkpoints."""

    @model_validator(mode="after")
    def _shardable(self) -> Resources:
        if self.shard and self.workers == 1:
            raise ValueError("shard = true shares a model out over several processes: workers must be at least 2")
        return self


class Range(Part):
    """A continuous setting that Optuna searches."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low} is not above 0, as a logarithmic range needs")
        return self


def dotted(tree: Any) -> Any:
    """{"forget": {"lr": [1, 2]}} -> {"forget.lr": [1, 2]}: what TOML makes of the bare key forget.lr. A Range stays whole."""
    if not isinstance(tree, Mapping):
        return tree
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and not value.keys() & Range.model_fields.keys():
            flat |= {f"{key}.{rest}": inner for rest, inner in dotted(value).items()}
        else:
            flat[key] = value
    return flat


class Search(Part):
    """Optuna within each cell of the axes: most forgetting on the task, least on the others."""

    trials: Count = 8
    """Trials a cell."""
    settings: Annotated[dict[str, Range], BeforeValidator(dotted)]
    """Range by dotted field of the trial, e.g. "forget.lr"."""


class Sweep(Part):
    """A study: `base` with every combination of `axes` laid over it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    """The MLflow experiment."""
    description: str = ""
    store: Name | None = None
    """Folder or URL of what trials share (forget.store); by default $FORGET_STORE, or .forget in the working directory."""
    base: dict[str, Any] = {}
    axes: Annotated[dict[str, list[Any]], BeforeValidator(dotted)] = {}
    resources: Resources = Resources()
    search: Search | None = None

    @model_validator(mode="after")
    def _expands(self) -> Sweep:
        # Table by table and value by value: a mistake is named by its place in the spec.
        base = merged({"task": "", "model": ""}, nested(self.base))
        validated(Trial, base, within="base")
        count = math.prod(map(len, self.axes.values())) * (self.search.trials if self.search else 1)
        if count > TRIALS:
            raise ValueError(f"the axes and the search make {count:,} trials, where a sweep has {TRIALS:,} at most")
        for axis, values in self.axes.items():
            if not values:
                raise ValueError(f"axes.{axis} has no values")
            for value in values:
                validated(Trial, merged(base, nested({axis: value})), within="axes")
        trials = self.trials()
        if len(set(trials)) < len(trials):
            raise ValueError("two combinations of the axes are the same trial")
        for key, bounds in (self.search.settings if self.search else {}).items():
            # The one between tells a continuous setting from a whole number.
            for value in (bounds.low, bounds.high, bounds.low + 0.382 * (bounds.high - bounds.low)):
                validated(Trial, merged(trials[0].model_dump(), nested({key: value})), within="search.settings")
        return self

    def trials(self) -> tuple[Trial, ...]:
        """Every combination, the first axis outermost."""
        base = nested(self.base)
        combinations = itertools.product(*self.axes.values())
        return tuple(
            validated(Trial, merged(base, nested(dict(zip(self.axes, values, strict=True)))), within="base")
            for values in combinations
        )


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """{"forget.lr": 1, "forget": {"epochs": 2}} -> {"forget": {"lr": 1, "epochs": 2}}."""
    tree: dict[str, Any] = {}
    for key, value in fields.items():
        for name in reversed(key.split(".")):
            value = {name: nested(value) if isinstance(value, Mapping) else value}
        tree = merged(tree, value)
    return tree


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `under`, table by table."""
    tree = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(tree.get(key), Mapping)
        tree[key] = merged(tree[key], value) if both else value
    return tree


def overlay(trial: Trial, fields: Mapping[str, Any]) -> Trial:
    """The trial with the given (dotted) fields changed."""
    return validated(Trial, merged(trial.model_dump(), nested(fields)))


P = TypeVar("P", bound=Part)


PLAIN = {
    "model_type": "should be a table",
    "dict_type": "should be a table",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
}
"""What pydantic says in terms of Python, in those of TOML."""


def validated(kind: type[P], fields: Mapping[str, Any], where: str = "", within: str = "") -> P:
    """
    Args:
        where: the file, and the line if need be.
        within: dotted key of the table that holds the fields.

    Raises:
        BadInput: names the key, what is wrong with it, and the nearest known key.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        # A key that is misspelt also goes missing; of the two, its spelling is the mistake.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        parts = [str(part) for part in ((within, *first["loc"]) if within else first["loc"])]
        key = ".".join(part if len(part) <= 80 else f"{part[:40]}...{part[-37:]}" for part in parts)
        place = f"{where}: " if where else ""
        if first["type"] == "extra_forbidden":
            raise BadInput(
                f'{place}unknown key "{key}"{nearest(str(first["loc"][-1]), _siblings(kind, first["loc"]))}'
            ) from None
        problem = PLAIN.get(first["type"], first["msg"].removeprefix("Value error, "))
        given = "" if first["type"] in ("missing", "value_error") else f", not {shown(first['input'])}"
        raise BadInput(f"{place}{key + ': ' if key else ''}{problem[0].lower() + problem[1:]}{given}") from None


def _siblings(kind: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    for name in path[:-1]:
        field = kind.model_fields.get(str(name))
        # The part itself, or the one in "Search | None" and "dict[str, Range]".
        members = (field.annotation, *get_args(field.annotation)) if field else ()
        kind = next((member for member in members if isinstance(member, type) and issubclass(member, BaseModel)), kind)
    return list(kind.model_fields)


SPECS = Path(__file__).parent.parent / "pipelines" / "specs"


def read_sweep(spec: str | Path) -> Sweep:
    """A sweep from a TOML file, or from the name of one that ships with the package.

    Raises:
        BadInput: no such file or name, not TOML, an unknown key, a value out of range.
    """
    path = spec_path(spec)
    fields = _read(path)
    fields.setdefault("name", path.stem)
    for table in ("base", "axes"):
        if isinstance(fields.get(table), dict):
            fields[table] = _beside(path, fields[table])
    return validated(Sweep, fields, str(path))


def read_trial(path: Path) -> Trial:
    """A trial from a TOML or JSON file with its fields.

    Raises:
        BadInput: as `read_sweep`.
    """
    return validated(Trial, _beside(path, _read(path)), str(path))


def spec_path(spec: str | Path) -> Path:
    """The file of a spec that is given as a file, or by the name of one that ships with the package."""
    path = Path(spec)
    if path.suffix == ".toml":
        return path
    path = SPECS / f"{spec}.toml"
    if not os.path.exists(path):
        raise BadInput(f'no spec is named "{spec}"{nearest(str(spec), (p.stem for p in SPECS.glob("*.toml")))}')
    return path


def _read(path: Path) -> dict[str, Any]:
    # A pipe would be waited for without end.
    if os.path.exists(path) and not path.is_file() and not path.is_dir():
        raise BadInput(f"{path}: the file cannot be read (not a file)")
    try:
        text = path.read_text(encoding="utf-8")
        fields = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise BadInput(f"{path}: the file cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}") from None
    # Beside the mistakes of grammar: a number of thousands of digits, and tables so deep that the reader gives up.
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}") from None
    if not isinstance(fields, dict):
        raise BadInput(f"{path}: not a table of fields")
    level: list[Any] = [fields]
    for _ in range(DEPTH):
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
        level = [inner for inner in level if isinstance(inner, (dict, list))]
    if level:
        raise BadInput(f"{path}: more than {DEPTH} tables or lists within each other")
    return fields


def located(folder: str | Path, beside: Path, where: str = "") -> str:
    """The absolute path of a task folder that is named relative to another folder.

    Args:
        where: the file that names it.

    Raises:
        BadInput: a home that nobody has, a link to itself, or a zero byte.
    """
    try:
        return str((beside / Path(folder).expanduser()).resolve())
    except (ValueError, RuntimeError, OSError) as error:
        place = f"{where}: " if where else ""
        raise BadInput(f"{place}the task folder {shown(str(folder))} cannot be found: {error}") from None


def _beside(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with the task folders, which a file names relative to itself, made absolute."""

    def absolute(folders: Any) -> Any:
        if isinstance(folders, list):
            return [absolute(folder) for folder in folders]
        return located(folders, path.parent, str(path)) if isinstance(folders, str) else folders

    return {key: absolute(value) if key == "folders" else value for key, value in fields.items()}
