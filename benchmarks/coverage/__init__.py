"""How often intervals hold the truth, and verdicts are false: simulated studies, analysed as real.

`python -m benchmarks.coverage` writes the tables that stand in docs/method.md.
"""
