"""Twisted's programming model on asyncio and Plait's kernel, at Twisted's own module paths.

Code written for Twisted ports by replacing the prefix `twisted.` with `plait.classic.`. The modules need the extra
`plait[classic]`, which brings zope.interface; nothing else of Plait imports them.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("zope") is None or find_spec("zope.interface") is None:
    from plait.errors import MissingExtra

    raise MissingExtra("plait.classic", "classic")
