"""The newest study on MLflow's pages: its address is printed, and opened where a browser is.

As a program of its own (`python -m pipelines.opening SERVER`) it waits for a server that starts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Mapping

from forget.errors import BadInput

START_SECONDS = 300
"""A server that does not answer by then is waited for no longer; most take a few seconds."""


def show(server: str) -> None:
    """Print the address of the newest study's trials, and open it in the user's browser.

    Args:
        server: address of MLflow's pages. Which study is the newest is asked of the tracking server
            that the environment names.

    Raises:
        Unreachable: the tracking server is away.
    """
    from forget import tracking

    link = tracking.newest_link(server)
    print(f"newest study: {link or 'none yet, run one by: forget sweep'}", flush=True)
    # Without a screen Python would take a browser of the terminal, and the terminal with it.
    screen = sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & {*os.environ}
    if link and ("BROWSER" in os.environ or (screen and sys.stdout.isatty())):
        webbrowser.open(link)


def show_once_up(server: str, environment: Mapping[str, str]) -> None:
    """Start a process that does what `show` does once the server answers.

    Args:
        server: address of MLflow's pages, which this process is about to serve.
        environment: names the tracking server, beside what this process has.
    """
    command = [sys.executable, "-m", "pipelines.opening", server]
    subprocess.Popen(command, env=os.environ | environment)


def _answers(server: str) -> bool:
    try:
        with urllib.request.urlopen(f"{server}/health", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def main() -> None:
    """Wait for the server that the command line names, and show its newest study."""
    (server,) = sys.argv[1:]
    parent, until = os.getppid(), time.monotonic() + START_SECONDS
    while not _answers(server):
        # Whoever was to serve it has given up.
        if os.getppid() != parent or time.monotonic() > until:
            return
        time.sleep(0.5)
    try:
        show(server)
    except BadInput as error:
        print(error, file=sys.stderr)


if __name__ == "__main__":
    main()
