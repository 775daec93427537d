"""Looks at a model: scores of options, and linear probes of hidden states."""
