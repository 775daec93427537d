"""The `forget` command as `python -m pipelines.cli`."""

from pipelines.cli.app import main

main()
