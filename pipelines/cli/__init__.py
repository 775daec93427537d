"""The `forget` command."""
