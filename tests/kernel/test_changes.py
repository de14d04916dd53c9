"""What counts as different between two trees, and what of it can be told to running services."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from plait import Application, Group, Policy, Service
from plait._kernel.changes import changes, same


class Store(Service):
    """Takes its arguments while it runs."""

    def __init__(self, dsn: str = "a", size: int = 1, *, use: object = None) -> None:
        self.given = (dsn, size, use)

    async def on_reload(self, dsn: str = "a", size: int = 1, *, use: object = None) -> None:
        self.given = (dsn, size, use)


class Stiff(Service):
    """Takes its arguments once."""

    def __init__(self, value: object = None) -> None: ...


class NoEquality:
    """Two of these are never equal."""


class Unequal:
    """Cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("no")

    __hash__ = None  # type: ignore[assignment]


def at_top() -> None: ...


def make_function(value: object) -> Callable[[], object]:
    return lambda: value


def recursive() -> Callable[[], object]:
    def function() -> object:
        return function

    return function


class Bound:
    """Has a method."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]

    def method(self) -> None: ...


def tree(build: Callable[[Application], object], **about: Any) -> Application:
    app = Application("app", **about)
    build(app)
    return app


async def found(old: Application, new: Application) -> list[str]:
    """The differences, in words, while the old tree runs."""
    async with old:
        return [str(change) for change in changes(old._record, new._record)]


async def between(old: Callable[[Application], object], new: Callable[[Application], object]) -> list[str]:
    return await found(tree(old), tree(new))


async def test_the_same_arguments_in_another_form_are_the_same() -> None:
    """By position, by name, or left to the default."""
    assert await between(lambda a: a.add(Store("a")), lambda a: a.add(Store(dsn="a", size=1))) == []


async def test_a_plain_value_for_on_reload_is_live() -> None:
    """The parameter is named, its value is not."""
    assert await between(lambda a: a.add(Store("a")), lambda a: a.add(Store("secret", 2))) == [
        "service 'store': dsn, size"
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (lambda: Stiff(1), lambda: Stiff(2), "service 'it': value (Stiff has no on_reload)"),
        (lambda: Store(use=at_top), lambda: Store(use=print), "service 'it': use (use is no plain value)"),
        (lambda: Store(use=[at_top]), lambda: Store(use=[print]), "service 'it': use (use is no plain value)"),
        (lambda: Store(use=NoEquality()), lambda: Store(use=NoEquality()), "service 'it': use (use is no plain value)"),
        (lambda: Store(), lambda: Stiff(), "service 'it' is another class, Stiff (only arguments are live)"),
    ],
)
async def test_what_is_not_live(old: Callable[[], Service], new: Callable[[], Service], said: str) -> None:
    """With the reason."""
    assert await between(lambda a: a.add(old(), name="it"), lambda a: a.add(new(), name="it")) == [said]


async def test_a_service_that_does_not_run_cannot_be_told() -> None:
    """An operator has stopped it."""
    old, new = tree(lambda a: a.add(Store("a"))), tree(lambda a: a.add(Store("b")))
    async with old:
        await old["store"].stop()
        assert [str(change) for change in changes(old._record, new._record)] == ["service 'store': dsn (it is stopped)"]


async def test_added_gone_needs_policy_and_the_applications_own() -> None:
    """None of them is live."""

    def old(app: Application) -> None:
        app.add(Stiff(), name="a")
        app.add(Stiff(), name="b")
        app.add(Group(), name="gone").add(Stiff())

    def new(app: Application) -> None:
        app.add(Stiff(), name="a", stop_timeout=3)
        app.add(Stiff(), name="b", needs=["a"])
        app.add(Group(), name="more").add(Stiff())

    assert await found(tree(old), tree(new, version="2", shutdown_delay=1)) == [
        "application 'app': version, shutdown_delay (only arguments are live)",
        "service 'a': policy stop_timeout (only arguments are live)",
        "service 'b': needs (only arguments are live)",
        "group 'more' is new (a running tree is not changed)",
        "service 'more/stiff' is new (a running tree is not changed)",
        "group 'gone' is gone (a running tree is not changed)",
    ]


async def test_a_groups_strategy() -> None:
    """Is its constructor's argument, and an attribute."""

    def with_strategy(strategy: Any) -> Callable[[Application], object]:
        return lambda app: app.add(Group(strategy=strategy), name="g").add(Stiff())

    assert await between(with_strategy("one_for_one"), with_strategy("one_for_all")) == [
        "group 'g': strategy (only arguments are live)"
    ]


async def test_services_given_to_constructors_are_the_same_by_path() -> None:
    """Another place is a difference."""

    def with_use(name: str) -> Callable[[Application], object]:
        def build(app: Application) -> None:
            services = {one: app.add(Stiff(), name=one) for one in ("a", "b")}
            app.add(Store(use=services[name]), name="user")

        return build

    assert await between(with_use("a"), with_use("a")) == []
    assert await between(with_use("a"), with_use("b")) == ["service 'user': use (use is no plain value)"]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (1, 1, True),
        (1, 1.0, False),
        ("a", "a", True),
        ([1, {"x": (2,)}], [1, {"x": (2,)}], True),
        ([1, {"x": (2,)}], [1, {"x": (3,)}], False),
        ([1], [1, 2], False),
        (float("nan"), float("nan"), False),
        (Policy(), Policy(), True),
        (at_top, at_top, True),
        (make_function(1), make_function(1), True),
        (make_function(1), make_function(2), False),
        (make_function(NoEquality()), make_function(NoEquality()), False),
        (make_function(make_function(1)), make_function(make_function(1)), True),
        (lambda: 1, lambda: 2, False),
        (functools.partial(at_top, 1), functools.partial(at_top, 1), True),
        (functools.partial(at_top, 1), functools.partial(at_top, 2), False),
        (Bound(1).method, Bound(1).method, True),
        (Bound(1).method, Bound(2).method, False),
        (int, int, True),
        (int, float, False),
        (NoEquality(), NoEquality(), False),
        (Unequal(), Unequal(), False),
        (Stiff(), Stiff(), False),
    ],
)
def test_same(a: object, b: object, expected: bool) -> None:
    """Values of two trees that mean the same; what cannot be compared is different."""
    assert same(a, b) is expected


async def test_what_refers_to_itself_is_different() -> None:
    """And harms nobody."""
    assert await between(lambda a: a.add(Store(use=recursive())), lambda a: a.add(Store(use=recursive()))) == [
        "service 'store': use (use is no plain value)"
    ]
