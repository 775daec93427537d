"""One trial by hand: a model learns a task, forgets it, and is asked what it still knows.

    python examples/one_trial.py smollm2-135m world

takes a minute or two on two cores.
"""

import sys

import forget

name, task = sys.argv[1:] or ("smollm2-135m", "world")
splits = {split: forget.load_task(task, split, 64) for split in ("train", "test")}
model = forget.load_model(name)


def look() -> dict[str, list]:
    """Score both splits."""
    return {split: forget.score(model, examples) for split, examples in splits.items()}


def best_probe() -> str:
    """Name the layer at which a linear probe reads the answer best."""
    scores = [score for score in forget.probe(model, task, 60) if not score.control]
    best = max(scores, key=lambda score: score.accuracy.value)
    return f"{best.accuracy} at layer {best.layer}, {best.position} token"


forget.fine_tune(model, splits["train"], forget.Stage(epochs=4, lr=1e-4))
learned, probe_learned = look(), best_probe()

forget.fine_tune(model, splits["train"], forget.Stage(epochs=4, lr=3e-4), labels="random")
forgotten, probe_forgotten = look(), best_probe()

for split in splits:
    print(f"accuracy on {split}, learned:   {forget.accuracy(learned[split])}")
    print(f"accuracy on {split}, forgotten: {forget.accuracy(forgotten[split])}")
    print(
        f"forget ratio on {split}:        {forget.forget_ratio(learned[split], forgotten[split])}"
    )
print(f"best probe, learned:   {probe_learned}")
print(f"best probe, forgotten: {probe_forgotten}")
