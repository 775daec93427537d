"""Simulated studies, analysed as real ones: do intervals hold the truth, and are verdicts false?

`python -m benchmarks.coverage` writes the tables that stand in docs/method.md.
"""
