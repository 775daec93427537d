"""The trials whose Rows and numbers are on record.

Together they use every setting that changes a number.
"""

from __future__ import annotations

from pathlib import Path

from forget.settings.parts import Lora, Probe, Stage, Watch
from forget.settings.sweep import Resources
from forget.settings.trial import Trial

FOLDER = Path(__file__).parent

LEARN = Stage(examples=48, epochs=3, lr=1e-2)
FORGET = Stage(examples=32, epochs=3, lr=1e-2)

PLAIN = Trial(
    task="vowels",
    model="tiny",
    learn=LEARN,
    forget=FORGET,
    evaluate_on=("upper", "colours"),
    evaluation_examples=40,
    probe=Probe(examples=20, positions=("first", "last", "mean")),
    watch=Watch(points=2, examples=16),
    precision="fp32",
    folders=(str(FOLDER / "tasks"),),
)


def like(**changes: object) -> Trial:
    """`PLAIN` with some fields changed."""
    return Trial.model_validate({**PLAIN.model_dump(), **changes})


COLOURS = {"task": "colours", "evaluate_on": ("vowels",)}

TRIALS: dict[str, tuple[Trial, Resources]] = {
    "plain": (PLAIN, Resources()),
    "anew-each-epoch": (like(arm="random_each_epoch", seed=3), Resources()),
    "flipped-all-tokens": (
        like(**COLOURS, arm="flipped", options="all", normalise="tokens"),
        Resources(),
    ),
    "true-labels": (like(arm="true", save=False), Resources()),
    "shuffled-member": (like(arm="shuffled_inputs", member=1, save=False), Resources()),
    "balanced-dose": (
        like(
            arm="balanced",
            forget={**FORGET.model_dump(), "until": {"trained_lost": 0.5, "examples": 32}},
        ),
        Resources(),
    ),
    "untaught": (like(arm="untaught"), Resources()),
    "bf16-bytes": (like(**COLOURS, precision="bf16", normalise="bytes"), Resources()),
    "lora": (like(tuning="lora", lora=Lora(rank=4, alpha=8, dropout=0.1)), Resources()),
    "ascent": (
        like(method="gradient_ascent", forget=FORGET.model_copy(update={"lr": 1e-3, "epochs": 1})),
        Resources(),
    ),
    "stages": (
        like(
            learn=LEARN.model_copy(
                update={"schedule": "cosine", "warmup": 0.3, "weight_decay": 0.1, "batch": 10}
            ),
            forget=FORGET.model_copy(update={"schedule": "constant", "clip": 0.1, "examples": 64}),
            model="tiny/1",
        ),
        Resources(),
    ),
    "looks": (
        like(
            task="upper",
            evaluate_on=(),
            probe=Probe(fit_on="trained", examples=30, layers=(0, -1), control=False),
            watch=Watch(points=0),
        ),
        Resources(),
    ),
    "no-probes-template": (like(template="qa", probe=Probe(examples=0)), Resources()),
    "built-in": (
        like(
            task="world",
            evaluate_on=("science", "sentiment", "reading"),
            evaluation_examples=24,
            folders=(),
        ),
        Resources(),
    ),
    "two-processes": (like(), Resources(workers=2)),
    "two-processes-sharded": (like(save=False), Resources(workers=2, shard=True)),
}
"""By name, the trial and what it ran on."""
