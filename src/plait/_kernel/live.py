"""Giving running services their constructor's arguments anew: a reload without a new generation.

Rules: one after another, in the order in which they start, each in a task of its own beside `run`, under its
`start_timeout`. All or nothing: when one fails, it and those before it are given their old arguments again, in
reverse. One that cannot take even these has failed; one that is at rest by then is constructed anew, in place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

from plait._kernel.changes import Change, arguments_for
from plait._kernel.engine import Engine
from plait._kernel.graph import known_needs
from plait._kernel.operations import wait, wait_out
from plait._kernel.record import Arguments, Record
from plait._kernel.states import AT_REST, READY

log = logging.getLogger("plait.kernel")


async def take_live(engine: Engine, changes: Iterable[Change]) -> None:
    """Until every changed service has its new arguments. Raises what one of them raised; all have the old ones then."""
    given = {change.old: arguments_for(change.old, change.new) for change in changes if change.old and change.new}
    told: list[Record] = []
    for record in _in_order(engine.root, given):
        told.append(record)
        try:
            await _tell(engine, record, given[record])
        except BaseException:  # also where who reloads is cancelled
            for one in reversed(told):
                await _take_back(engine, one)
            raise
    for record, arguments in given.items():
        record.arguments = arguments


def _in_order(root: Record, changed: Iterable[Record]) -> list[Record]:
    """A service after what it needs, and after its group."""
    sorter: TopologicalSorter[Record] = TopologicalSorter()
    for record in root.below():
        needs = [one for need in known_needs(record) for one in need.below()]
        sorter.add(record, *needs, *([record.parent] if record.parent is not None else ()))
    wanted = set(changed)
    return [record for record in sorter.static_order() if record in wanted]


async def _tell(engine: Engine, record: Record, arguments: Arguments) -> None:
    told = _call(engine, record, arguments)
    try:
        await wait(told)
    except asyncio.CancelledError:
        await wait_out(told)  # or its old arguments would meet the new ones
        told.exception()
        raise
    told.result()


def _call(engine: Engine, record: Record, arguments: Arguments) -> asyncio.Future[None]:
    """Its on_reload; done when that is."""
    args, kwargs = arguments
    told: asyncio.Future[None] = engine.loop.create_future()
    try:
        life = engine.life(record)
        hook = record.service.on_reload(*args, **kwargs)
        life.beside(hook, "on_reload", record.policy.start_timeout, partial(_settle, told))
    except Exception as error:  # noqa: BLE001  # as if the hook had raised it
        told.set_exception(error)
    return told


def _settle(told: asyncio.Future[None], _: Any, error: Exception | None) -> None:
    if told.done():
        return
    if error is not None:
        told.set_exception(error)
    else:
        told.set_result(None)


async def _take_back(engine: Engine, record: Record) -> None:
    """Its old arguments again, whatever it is doing by now, and whoever is cancelled."""
    while record.state not in AT_REST:
        if record.state in READY:
            told = _call(engine, record, record.arguments)
            await wait_out(told)
            error = told.exception()
            if error is None:
                return
            log.error("%s cannot go back to its old arguments, and fails of it: %s", record.subject, error)
            if record.state in READY:
                engine.life(record).fail(error)
        else:
            await wait_out(engine.next_rest(record))
    args, kwargs = record.arguments
    type(record.service).__init__(record.service, *args, **kwargs)
