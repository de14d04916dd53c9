"""How a thing is called and shown in messages, whatever it does when it is asked.

Rule: nothing here raises. An object whose `__str__` or `__repr__` does is shown by its class, its address, and what
it raised.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable


def qual(kind: object) -> str:
    """The name of a class with the module it is in: `builtins.ValueError`."""
    name = getattr(kind, "__name__", None) or type(kind).__name__
    return f"{getattr(kind, '__module__', None)}.{name}"


def safe_str(thing: object) -> str:
    """`str(thing)`; bytes are decoded as UTF-8 where they are that."""
    if isinstance(thing, bytes):
        try:
            return thing.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return _safely(str, thing)


def safe_repr(thing: object) -> str:
    """`repr(thing)`."""
    return _safely(repr, thing)


def _safely(form: Callable[[object], str], thing: object) -> str:
    try:
        return form(thing)
    except BaseException:
        name, how = type(thing).__name__, form.__name__
        return f"<{name} instance at 0x{id(thing):x} with {how} error:\n {traceback.format_exc()}>"


def deprecated(name: str, version: str, instead: str | None = None, *, level: int = 3) -> None:
    """Warn with Twisted's words, at whom called the function that calls this, of what Twisted itself gave up.

    `name` and `instead` are below `twisted.`, since who looks them up looks there.
    """
    cure = f"; please use twisted.{instead} instead" if instead else ""
    text = f"twisted.{name} was deprecated in Twisted {version}{cure}"
    warnings.warn(text, DeprecationWarning, stacklevel=level)
