"""`plait list`: the installed plugins."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from plait.plugins.entries import Plugin, plugins


@click.command(
    "list",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="List the installed plugins: services and applications that packages offer by name.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> int:
    found = plugins()
    if as_json:
        click.echo(json.dumps([asdict(plugin) for plugin in found], indent=2, ensure_ascii=False))
        return 0
    if not found:
        click.echo("no plugins are installed; a package offers one as an entry point of the group plait.services")
    width = max((len(plugin.name) for plugin in found), default=0)
    for plugin in found:
        click.echo(f"{plugin.name:<{width}}  {_about(plugin)}  ({plugin.distribution} {plugin.version})")
    return 0


def _about(plugin: Plugin) -> str:
    if plugin.error is not None:
        return f"BROKEN: {' '.join(plugin.error.split())}"
    return (plugin.description or "-") + ("" if plugin.runnable else " [for `use` in a file]")
