"""Faults put on real sweeps.

The rooms are world (servers, a sweep as a process), faults (what goes wrong) and check (what must
hold).
"""
