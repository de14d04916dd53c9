"""Parts to compose, and the short way to compose them, for the tests of composition by file."""

import textwrap
from pathlib import Path

import pytest

from plait import Application
from plait.errors import OptionsError
from plait.options import Inputs
from plait.plugins import load

PARTS = """
    '''Parts to compose.'''
    from __future__ import annotations
    import typing
    from collections.abc import Callable
    from typing import Annotated, TYPE_CHECKING
    from plait import Application, Duration, Group, Meta, Options, Policy, Secret, Service, service
    if TYPE_CHECKING:
        import ssl

    class Database(Service):
        '''Keeps things.'''
        def __init__(self, dsn: str, size: Annotated[int, Meta(ge=1)] = 5, password: Secret = Secret("")) -> None:
            self.dsn, self.size, self.password = dsn, size, password

    class Cache(Database):
        pass

    class Handler(typing.Protocol):
        def __call__(self) -> None: ...

    class Web(Service):
        policy = Policy(placement="each")
        def __init__(
            self,
            db: Database,
            handler: Callable[[], None] | None = None,
            *,
            wait: Duration = 3.0,
            spare: Database | None = None,
            other: Handler | None = None,
            context: ssl.SSLContext | None = None,
            anything=None,
        ) -> None:
            if wait == 13:
                raise ValueError("13 is unlucky")
            if wait == 14:
                raise RuntimeError("14 is worse")
            self.db, self.handler, self.wait, self.spare, self.other = db, handler, wait, spare, other
            self.context, self.anything = context, anything

    class TlsOptions(Options):
        cert: str
        key: str = "key"

    class Secure(Service):
        def __init__(self, tls: TlsOptions | None = None, names: tuple[str, ...] = ()) -> None:
            self.tls, self.names = tls, names

    class EchoOptions(Options):
        '''Echoes.'''
        listen: str = "tcp://:1"
        password: Secret = Secret("default")
        count: int = 1

        def __post_init__(self):
            if self.count == 13:
                raise ValueError(f"unlucky {self.password.reveal()}")

    class Configured(Service):
        def __init__(self, options: EchoOptions) -> None:
            self.options = options

    def make_app(options: EchoOptions) -> Application:
        app = Application("whatever", strategy="rest_for_one")
        db = app.add(Database(options.listen), "db")
        app.add(Database("y"), "near", needs=["/db", db])
        inner = app.add(Group(), "inner")
        inner.add(Database("z"), "far", needs=["/near"])
        return app

    def make_one():
        return Database("one")

    def make_nothing():
        return None

    def make_trouble():
        1 / 0

    class Hooked(Application):
        async def on_start(self): ...

    @service
    async def ticker(period: Duration, name: str = "x"):
        yield name

    def handle() -> None: ...

    made = Database("made")
    number = 5
"""


def write(text: str) -> None:
    """app.toml with this text, beside parts.py."""
    Path("parts.py").write_text(textwrap.dedent(PARTS))
    Path("app.toml").write_text(textwrap.dedent(text))


def build(text: str, *argv: str, **environ: str) -> Application:
    """The application of this file."""
    write(text)
    target = load("app.toml")
    return target.build(target.resolve(Inputs(argv, environ=environ)).options)


def problems(text: str, *argv: str, **environ: str) -> list[str]:
    """Everything that is wrong with this file."""
    with pytest.raises(OptionsError) as caught:
        build(text, *argv, **environ)
    return [str(one) for one in caught.value.problems]


def problem(text: str, *argv: str, **environ: str) -> str:
    """The one thing that is wrong with this file."""
    found = problems(text, *argv, **environ)
    assert len(found) == 1, found
    return found[0]


def tree(app: Application) -> dict[str, tuple[str, ...]]:
    """Every path with its needs."""
    return {one.path: one.needs for one in app.snapshot().walk()}


DB = '[services.db]\nuse = "parts:Database"\noptions = { dsn = "x" }\n'
WEB = '[services.web]\nuse = "parts:Web"\noptions = { db = "db" }\n'
