"""The `plait` command: its subcommands by name, and what becomes of errors.

Rules: a subcommand's module is imported when it is called, so that `plait --help` costs no more than click. Every
error ends here: it is told on stderr, each line as "plait: error: …", and becomes an exit code by one table.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from plait import __version__
from plait.errors import PlaitError

COMMANDS = {
    "run": ("plait.cli.run", "Run a target until it ends or is told to stop."),
    "check": ("plait.cli.check", "Check a target's options and its services, and start nothing."),
    "options": ("plait.cli.options", "Show a target's options and where each value comes from."),
    "stop": ("plait.cli.stop", "Stop a running application, and wait until it has ended."),
    "reload": ("plait.cli.reload", "Have a running application take its options anew, without interruption."),
    "list": ("plait.cli.plugins", "List the installed plugins."),
}
"""Each subcommand's module, which has it as `command`, and one line about it."""

USAGE = 2
BROKEN_PIPE = 1
"""Click's code for it, which sees most of them before we do."""


class Commands(click.Group):
    """Subcommands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"to run a target: plait run {args[0]}"
            ctx.fail(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compose network services into one application, and operate it.",
    epilog="A TARGET is module[:attr], file.py[:attr], file.toml, or the name of a plugin.",
)
@click.version_option(__version__, "--version", prog_name="plait", message="%(prog)s %(version)s")
def plait() -> None:
    pass


def invoke(argv: Sequence[str] | None = None) -> int:
    """Run the command line, or `argv`; the exit code."""
    _open_standard_streams()
    try:
        code = plait.main(args=argv, prog_name="plait", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        return _refused(error)
    except PlaitError as error:
        return _failed(error)
    except (click.Abort, KeyboardInterrupt):
        return 128 + 2
    except BrokenPipeError:
        # Who read our output has had enough; Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _open_standard_streams() -> None:
    """Where a standard stream is closed, the next socket would get its number, and log lines would go to a client."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


def _refused(error: click.ClickException) -> int:
    """A command line that click could not follow."""
    text = error.format_message().rstrip(".")
    text = text[:1].lower() + text[1:]
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "plait"
    sys.stderr.write(f"plait: error: {text}; see {path} --help\n")
    return USAGE


def _failed(error: PlaitError) -> int:
    from plait.process.exits import exit_code, lines_of

    sys.stderr.write(lines_of(error))
    return exit_code(error)
