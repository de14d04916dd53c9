"""What `ps` and `top` show of a process.

Rule: the title is written over the command line, which takes a library; only who asks for one needs it.
"""

from __future__ import annotations

from plait.errors import MissingExtra


def set_title(text: str) -> None:
    """Show this from now on. MissingExtra without setproctitle."""
    try:
        from setproctitle import setproctitle
    except ImportError:
        raise MissingExtra("--title", "title") from None
    setproctitle(text)
