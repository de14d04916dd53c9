"""The state table: complete, and every life ends through STOPPING."""

from __future__ import annotations

import pytest

from plait import Application, Service, State
from plait._kernel.states import AT_REST, LIVE, TRANSITIONS
from plait.errors import IllegalTransition


def test_every_state_has_a_row() -> None:
    """The table leaves no state out, and each state knows its row."""
    assert set(TRANSITIONS) == set(State)
    assert all(state.next == TRANSITIONS[state] for state in State)


def test_every_state_can_be_reached() -> None:
    """From NEW, along the table."""
    reached, front = {State.NEW}, [State.NEW]
    while front:
        for state in front.pop().next:
            if state not in reached:
                reached.add(state)
                front.append(state)
    assert reached == set(State)


def test_an_incarnation_ends_through_stopping_alone() -> None:
    """No live state but STOPPING leads to a state at rest, so nothing can skip the unwinding."""
    for state in LIVE - {State.STOPPING}:
        assert not set(state.next) & AT_REST


async def test_an_illegal_move_is_refused_by_name() -> None:
    """The engine cannot be made to move a service off the table, and says who and whither."""
    app = Application("shop")
    db = app.add(Service(), name="db")
    async with app:
        with pytest.raises(IllegalTransition, match="service 'db' cannot go from running to backoff"):
            app._root_engine.move(db._record, State.BACKOFF)
        assert db.state is State.RUNNING
