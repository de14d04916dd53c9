"""What the commands that talk to a running application have in common: `COMMAND [OPTIONS] [NAME|PID]`.

Rules: without a name the application is the one that systemd has as the main process of the unit whose command this
is, else the only one there is. Interrupting a command ends only its wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from plait.control.client import Client, find
from plait.control.folder import runtime_folder
from plait.control.messages import Note


def with_application(function: Callable[..., Any]) -> Callable[..., Any]:
    """The parameters `named` and `runtime_dir`."""
    function = click.argument("named", metavar="[NAME|PID]", required=False)(function)
    return click.option("--runtime-dir", metavar="DIR", help="Where its control socket is, if it was told another.")(
        function
    )


def client_of(named: str | None, runtime_dir: str | None) -> Client:
    """A connection to the application that is meant, not greeted yet. NotRunning, or ControlError."""
    return find(runtime_folder(os.environ, runtime_dir), named or os.environ.get("MAINPID") or None)


def say(note: Note) -> None:
    """On stderr, since it is no result."""
    click.echo(f"plait: {note.text}", err=True)
