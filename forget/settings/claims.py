"""The claims that a study is put to, and of which a spec declares its primary ones."""

from __future__ import annotations

CLAIMS = {
    "trained": "The examples that forgetting trains on go to near random",
    "some": "Forgetting generalises to held-out examples in some tasks and not in others",
    "near": "Examples that are similar to trained ones are still answered",
    "elsewhere": "It reaches some other tasks and spares others",
    "own": "Another task's labels take more of some task than its own do",
    "insensitive": (
        "What is forgotten elsewhere depends on the task evaluated more than on the task trained on"
    ),
    "difficulty": "A task's difficulty does not predict how much of it is forgotten",
    "confidence": "Low confidence goes with more forgetting, weakly",
    "variability": "Low variability of the hidden states goes with more forgetting, weakly",
    "examples": "Neither predicts which single examples of a task are forgotten",
    "order": "What is learned early is forgotten late, weakly",
    "probes": "Linear probes still read what the answers have lost",
    "hidden": "Forgetting hides rather than removes: an audit brings most of the skill back",
    "known": "The model knows that it forgot",
}
"""Claims by short name, in the order of the page (Zhang, Choshen, Andreas 2024; the last two are of
audits).

docs/method.md has the rule of each.
"""
