"""One trial by hand: a model learns a task, forgets it, and is asked what it still knows.

    python examples/one_trial.py smollm2-135m world

takes a minute or two on two cores.
"""

import sys
from statistics import mean

import forget

name, task = sys.argv[1:] or ("smollm2-135m", "world")
splits = {split: forget.load_task(task, split, 64) for split in ("train", "test")}
model = forget.load_model(name)


def look() -> dict[str, list]:
    """Score both splits."""
    return {split: forget.score(model, examples) for split, examples in splits.items()}


def probe() -> str:
    """Say how well linear probes of the middle layers read the answer, in the mean."""
    scores = forget.probe(model, task, 60)
    middle = [score for score in scores if score.middle and not score.control]
    accuracies = [score.accuracy.value for score in middle]
    return f"{mean(accuracies):.3f} over layers {middle[0].layer} to {middle[-1].layer}"


forget.fine_tune(model, splits["train"], forget.Stage(epochs=4, lr=1e-4))
learned, probe_learned = look(), probe()

forget.fine_tune(model, splits["train"], forget.Stage(epochs=4, lr=3e-4), arm="random")
forgotten, probe_forgotten = look(), probe()

for split in splits:
    print(f"accuracy on {split}, learned:   {forget.accuracy(learned[split])}")
    print(f"accuracy on {split}, forgotten: {forget.accuracy(forgotten[split])}")
    print(
        f"forget ratio on {split}:        {forget.forget_ratio(learned[split], forgotten[split])}"
    )
print(f"probes, learned:   {probe_learned}")
print(f"probes, forgotten: {probe_forgotten}")
