"""`plait reload`: a running application takes its options anew; returns when it has, or could not."""

from __future__ import annotations

import click

from plait.cli.running import client_of, say, with_application


@click.command(
    "reload",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Have a running application take its options, and its file, anew without interruption, and say what was done. "
    "If anything is wrong, everything goes on as it was.",
    epilog="Exit codes: 0 done, or nothing to do; 2 its options are wrong, or no such application is running; "
    "3 its code raised, or the next generation did not start; 70 it did not answer, or cannot reload.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and why.")
@with_application
def command(named: str | None, runtime_dir: str | None, dry_run: bool) -> int:
    with client_of(named, runtime_dir) as client:
        client.greet()
        done = client.call("reload", {"dry_run": dry_run}, on_note=say)
    click.echo(done["text"])
    return 0
