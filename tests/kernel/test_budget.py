"""Fitting the deadlines of a stop into the application's time."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from plait import Application, Group, Policy, Service
from plait._kernel.budget import shrink
from plait._kernel.graph import needs_of
from plait._kernel.record import Record


class Stopping(Service):
    """Costs 10 s, and 1 s of grace."""

    policy = Policy(stop_timeout=10)

    async def on_stop(self) -> None: ...


def cut(app: Application, timeout: float) -> dict[str, float]:
    """The factors, by path."""
    members = dict.fromkeys(app._record.below())
    blocks: dict[Record, list[Record]] = {}
    for record in members:
        for need in needs_of(record):
            blocks.setdefault(record, []).append(need)
    return {record.path: round(factor, 3) for record, factor in shrink(members, blocks, timeout).items()}


def chain(app: Application, names: Iterable[str]) -> None:
    """Services each of which needs the one before."""
    before: list[str] = []
    for name in names:
        app.add(Stopping(), name=name, needs=before)
        before = [name]


def test_what_fits_is_left_alone() -> None:
    """Two in a row need 22 s."""
    app = Application("shop")
    chain(app, "ab")
    assert cut(app, 22) == {}


def test_a_chain_is_cut_by_one_factor_and_a_branch_keeps_its_own_time() -> None:
    """Three in a row have 16.5 s for 33; the one beside them fits."""
    app = Application("shop")
    chain(app, "abc")
    app.add(Stopping(), name="beside")
    assert cut(app, 16.5) == {"a": 0.5, "b": 0.5, "c": 0.5}


def test_a_shorter_chain_through_the_same_service_is_cut_less() -> None:
    """a <- b <- c is 33 s long, a <- d only 22; each service has the factor of its longest chain."""
    app = Application("shop")
    chain(app, "abc")
    app.add(Stopping(), name="d", needs=["a"])
    assert cut(app, 11) == {"a": 0.333, "b": 0.333, "c": 0.333, "d": 0.5}


def test_groups_add_their_own_hooks_to_the_chain() -> None:
    """Drain of the group, its services, its on_stop."""

    class Back(Group):
        policy = Policy(stop_timeout=10, drain_timeout=5)

        async def on_drain(self) -> None: ...

        async def on_stop(self) -> None: ...

    app = Application("shop")
    app.add(Back(), name="back").add(Stopping(), name="db")
    assert cut(app, 27) == {}
    assert cut(app, 13.5) == {"back": 0.5, "back/db": 0.5}


def test_services_without_hooks_cost_nothing() -> None:
    """However many."""
    app = Application("shop")
    for number in range(100):
        app.add(Service(), name=f"s{number}", needs=[f"s{number - 1}"] if number else [])
    assert cut(app, 0.1) == {}


@pytest.mark.parametrize("length", [2, 3, 5])
def test_no_chain_overruns(length: int) -> None:
    """The factors times the costs add up to what there is."""
    app = Application("shop")
    chain(app, "abcde"[:length])
    factors = cut(app, 10)
    assert sum(factor * 11 for factor in factors.values()) == pytest.approx(10, abs=0.02)
