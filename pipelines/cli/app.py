"""The `forget` command, its commands and its errors.

Heavy imports happen inside the commands: `forget --help` has to be quick.
"""

from __future__ import annotations

import errno
import gc
import sys
import traceback

import typer

from forget.errors import BadInput, OutOfMemory
from pipelines import GARBAGE
from pipelines.cli import audits, clusters, lists, studies, trials

COMMANDS = (
    studies.plan,
    studies.sweep,
    trials.trial,
    trials.probe,
    audits.audit,
    studies.report,
    studies.compare,
    lists.models,
    lists.tasks,
    lists.methods,
    audits.audits,
    studies.ui,
    studies.sync,
    lists.doctor,
)
"""Commands in the order of the help; each is called what its function is."""

FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Error numbers of a file that the user may not open, make or write."""

OURS = "change its permissions, or use a folder of your own"
"""The cure."""

CLUSTER = (
    clusters.doctor,
    clusters.deploy,
    clusters.sweep,
    clusters.ui,
    clusters.undeploy,
)
"""Commands of `forget cluster`."""


def application() -> typer.Typer:
    """Return the command with all its commands."""
    app = typer.Typer(
        help="How far does forgetting by fine-tuning reach?",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    cluster = typer.Typer(
        help="The same on Kubernetes; make calls it where CONTEXT is given.", no_args_is_help=True
    )
    for command in COMMANDS:
        app.command()(command)
    for command in CLUSTER:
        cluster.command()(command)
    app.add_typer(cluster, name="cluster")
    return app


def main() -> None:
    """Run the command.

    Bad input costs one sentence and exit code 2, as typer's own usage errors do; a bug a traceback
    and 1. What the terminal shows, a cluster keeps as a log: no password is in it. Nor does a name
    that came from elsewhere reach the terminal as a command.
    """
    gc.set_threshold(GARBAGE)
    try:
        application()()
    except Exception as error:
        from forget.redaction import without_secrets

        code, text = 2, f"forget: {error}"
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, *FORBIDDEN):
            full = error.errno == errno.ENOSPC
            code, cure = (1, "make room, and the same command goes on") if full else (2, OURS)
            place = f": {error.filename}" if error.filename else ""
            text = f"forget: {error.strerror}{place}; {cure}"
        elif not isinstance(error, BadInput | OutOfMemory):
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
