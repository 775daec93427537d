"""Amounts and durations as a person reads them."""

from __future__ import annotations


def amount(n: float) -> str:
    """Return "640 ", "1.2 k", "3.4 M" or "5.6 G", which a unit may follow."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n:.0f} "


def duration(seconds: float) -> str:
    """Return "45 s", "12.0 min", "3.5 h" or "12.0 days"."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
