"""Random programs give the same trace on Twisted's Deferred and on ours."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

pytest.importorskip("twisted", reason="Twisted is not installed; it is what this compares with")

from deferred_programs import Program, Run, programs
from hypothesis import HealthCheck, assume, given, settings
from twisted import logger as their_logger
from twisted.internet import defer as their_defer
from twisted.internet import task as their_task
from twisted.python import failure as their_failure

from plait.classic import logger
from plait.classic.internet import defer, task
from plait.classic.python import failure


def on_ours(program: Program) -> list[object]:
    """The trace here."""
    return Run(defer, failure, logger, task)(program)


def on_theirs(program: Program) -> list[object]:
    """The trace on Twisted."""
    return Run(their_defer, their_failure, their_logger, their_task)(program)


@pytest.fixture(scope="module", autouse=True)
def only_what_is_made_from_now_on() -> Iterator[None]:
    """Each run ends with a garbage collection, which is to look at little, and to find all that the run has left.

    Before its logging begins, Twisted keeps each event, with its Failure and what the frames of that refer to.
    """
    their_logger.globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@given(program=programs)
@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_a_random_program_does_the_same(program: Program) -> None:
    """Callbacks that return, raise, wait, pause, cancel, fire and add; time-outs; lists, races, coroutines."""
    theirs = on_theirs(program)
    assume("AssertionError" not in str(theirs))  # of Twisted's own, where it awaits one that is failing just now
    assert on_ours(program) == theirs
