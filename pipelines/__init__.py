"""The command `forget`, sweeps on Ray, and clusters: the science below, run."""

from pathlib import Path

PROJECT = Path(__file__).parents[1]
"""The folder that holds the packages, and in a checkout the manifests."""

INTERRUPTED = 130
"""The shell's exit code for Ctrl-C: 128 + SIGINT."""

GARBAGE = 10_000
"""New objects after which Python looks for garbage. Imports make millions that stay: to look
whenever 700 are new would take a quarter of every start.
"""
