"""`plait options`: a target's options with the source of each, or a file to start from."""

from __future__ import annotations

import click

from plait.cli.target import TargetCommand, with_target
from plait.options.schema import schema_of
from plait.options.show import FORMATS, render_table
from plait.process.runner import Runner
from plait.process.settings import FLAGS


@click.command(
    "options",
    cls=TargetCommand,
    help="Show every option of TARGET, its value, and where that comes from; secrets are masked.",
    epilog="plait options TARGET --format toml > app.toml writes a file to start from, for --config.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    help="Write a file to start from, with the values in force.",
)
@with_target
def command(target: str, argv: tuple[str, ...], file_format: str | None) -> int:
    runner = Runner(target, argv, runner_flags=FLAGS)
    if file_format is None and (found := _format_after(argv)) and not _has_format(runner):
        file_format, argv = found
        runner = Runner(target, argv, runner_flags=FLAGS)
    if file_format is not None:
        click.echo(runner.starting_file(file_format), nl=False)
        return 0
    resolved = runner.options
    click.echo(render_table(resolved.rows) or f"{target} has no options\n", nl=False)
    for note in resolved.notes:
        click.echo(f"plait: warning: {note}", err=True)
    return 0


def _format_after(argv: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
    """`--format` is typed after the target as well, where it would be the application's; its value, and the rest."""
    for index, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name == "--format" and (equals or argv[index + 1 : index + 2]):
            used = 1 if equals else 2
            value = value or argv[index + used - 1]
            return (value, argv[:index] + argv[index + used :]) if value in FORMATS else None
    return None


def _has_format(runner: Runner) -> bool:
    """Whether the application has an option of that name itself."""
    cls = runner.load().options_class
    return cls is not None and "--format" in schema_of(cls).flags()
