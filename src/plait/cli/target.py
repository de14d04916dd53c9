"""What the commands that take a target have in common: `COMMAND [OPTIONS] TARGET [APPLICATION OPTIONS]`.

Rule: the command's own options stand before the target, the application's after it, and whoever mixes them up is
told where the option belongs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import click

ANY_TARGET = re.compile(r".+\.(py|toml|tac)(:[\w.]+)?|[A-Za-z_][\w.]*:[\w.]+")


class TargetCommand(click.Command):
    """Stops at the target, and leaves what follows to the application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        settings = {"help_option_names": ["-h", "--help"], "allow_interspersed_args": False}
        kwargs["context_settings"] = {**settings, **kwargs.get("context_settings", {})}
        super().__init__(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            ctx.fail(_misplaced(ctx, error, given))

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", "TARGET", "[APPLICATION OPTIONS]"]


def _misplaced(ctx: click.Context, error: click.NoSuchOption, args: Sequence[str]) -> str:
    near = f", did you mean {error.possibilities[0]}?" if error.possibilities else ";"
    target = next((word for word in args if ANY_TARGET.fullmatch(word)), "TARGET")
    there = f"{ctx.command_path} {target} {error.option_name}"
    return f"no option {error.option_name}{near} an option of the application stands after the target: {there}"


def with_target(function: Callable[..., Any]) -> Callable[..., Any]:
    """The parameters `target` and `argv`."""
    function = click.argument("argv", nargs=-1, type=click.UNPROCESSED)(function)
    return click.argument("target")(function)


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether it is worth asking the target itself: `-h` may be the value of one of its options."""
    return "--help" in argv or "-h" in argv


def print_help(command: str, target: Any, options: str) -> None:
    """The help of one target, as `command` takes it."""
    click.echo(f"Usage: {command} [OPTIONS] {target.text} [APPLICATION OPTIONS]\n")
    if target.description:
        click.echo(f"  {target.description}\n")
    click.echo("Application options, which stand after the target:\n")
    click.echo(options.rstrip("\n") + "\n")
    click.echo("The command line goes before the environment, that before files, these before defaults.")
    click.echo(f"{command} --help shows what stands before the target.")
