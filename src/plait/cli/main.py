"""What the `plait` script and `python -m plait` call."""

from plait.cli.app import invoke


def main() -> int:
    """Run the command line; the exit code."""
    return invoke()
