"""`plait stop`: stop a running application, as a TERM does, and return when its process has ended.

Rule: one that does not answer, as its loop is held up, is told by a signal, which it hears all the same.
"""

from __future__ import annotations

import contextlib
import signal
from typing import Any

import click

from plait.cli.running import client_of, with_application
from plait.control.client import Client
from plait.control.messages import Note
from plait.errors import CommandFailed, ControlError

FIRST_WORD_TIMEOUT = 5.0
"""For it to say that it stops, and how long that may take."""
END_TIMEOUT = 40.0
"""For its process to end, when it has said how it stopped, or got a signal since it says nothing."""


@click.command(
    "stop",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Stop a running application in order, and wait until its process has ended.",
    epilog="Exit codes: 0 it has stopped; 2 no such application is running; 70 it failed while it stopped, or did not "
    "end in time. Interrupting this command does not take the stop back.",
)
@with_application
def command(named: str | None, runtime_dir: str | None) -> int:
    with client_of(named, runtime_dir) as client:
        ended = _told(client)
        if not client.wait_ended(END_TIMEOUT):
            raise CommandFailed(f"{client.place} has not ended; see its log, or kill it")
        if ended is None:
            raise CommandFailed(f"{client.place} has ended, but did not say how: it was forced, or killed; see its log")
        if ended["code"]:
            raise CommandFailed(f"{client.place} has ended: {ended['text']}", ended["code"])
        click.echo(f"{client.place} has stopped")
    return 0


def _told(client: Client) -> dict[str, Any] | None:
    """How it has stopped, as it says; None if it did not say."""
    heard: list[Note] = []
    try:
        client.greet()
        ended: dict[str, Any] = client.call("stop", timeout=FIRST_WORD_TIMEOUT, on_note=heard.append)
        return ended
    except CommandFailed:
        raise
    except ControlError as error:
        if not heard and not client.wait_ended(0):  # a second signal would force what is under way
            click.echo(f"plait: warning: {error}; it is told by a signal", err=True)
            with contextlib.suppress(ProcessLookupError):
                client.signal(signal.SIGTERM)
    return None
