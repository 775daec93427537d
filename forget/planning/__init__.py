"""Costs and limits of a sweep, known before anything is computed."""
