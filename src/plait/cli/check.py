"""`plait check`: whether a target's options and services are right, without starting anything."""

from __future__ import annotations

import click

from plait.cli.target import TargetCommand, with_target
from plait.process.runner import Runner
from plait.process.settings import FLAGS, settle


@click.command(
    "check",
    cls=TargetCommand,
    help="Check the options and the services of TARGET, and print what would run. Nothing is started or touched.",
    epilog="Exit codes: 0 right, 2 wrong usage or options, 3 the target raised or its services do not fit together.",
)
@with_target
def command(target: str, argv: tuple[str, ...]) -> int:
    settle({}, target, argv)
    runner = Runner(target, argv, runner_flags=FLAGS)
    snapshot = runner.check().snapshot()
    version = f" {runner.application.version}" if runner.application.version else ""
    click.echo(f"application {snapshot.name}{version}")
    for service in snapshot.walk():
        if service is not snapshot:
            indent = "  " * (service.path.count("/") + 1)
            needs = f"  needs {', '.join(service.needs)}" if service.needs else ""
            click.echo(f"{indent}{service.name}  {service.kind}{needs}")
    for note in runner.options.notes:
        click.echo(f"plait: warning: {note}", err=True)
    return 0
