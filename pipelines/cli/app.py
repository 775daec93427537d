"""The `forget` command. Heavy imports happen inside the commands: `forget --help` has to be quick."""

from __future__ import annotations

import errno
import gc
import sys
import traceback

from forget.errors import BadInput
from pipelines.cli import lists, studies, trials  # noqa: F401
from pipelines.cli.clusters import cluster
from pipelines.cli.shared import app

app.add_typer(cluster, name="cluster")


def main() -> None:
    """Run the command. Bad input costs one sentence and exit code 2, as typer's own usage errors do; a bug a traceback and 1.

    What the terminal shows, a cluster keeps as a log: no password is in it. Nor does a name that
    came from elsewhere reach the terminal as a command.
    """
    try:
        app()
    except Exception as error:
        from forget.redaction import without_secrets

        code, text = 2, f"forget: {error}"
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            place = f": {error.filename}" if error.filename else ""
            code, text = (
                1,
                f"forget: {error.strerror}{place}; make room, and the same command goes on",
            )
        elif not isinstance(error, BadInput):
            code, text = 1, traceback.format_exc()
        # A sentence stays one line, whatever it quotes.
        kept = "\n\t" if text.startswith("Traceback") else ""
        text = without_secrets(text.rstrip())
        print(
            "".join(x if x.isprintable() or x in kept else ascii(x)[1:-1] for x in text),
            file=sys.stderr,
        )
        sys.exit(code)
    finally:
        # Python looks for garbage once more before it ends: two seconds among all that was
        # imported.
        gc.freeze()
