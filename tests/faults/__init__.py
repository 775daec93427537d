"""Faults put on real sweeps: world (servers, a sweep as a process), faults (what goes wrong), check (what must hold)."""
