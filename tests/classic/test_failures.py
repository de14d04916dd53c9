"""Failure: what it holds, how it is asked and shown, also where no exception is left."""

from __future__ import annotations

import pickle
import traceback
from io import StringIO
from typing import Any

import pytest

from plait.classic.python.failure import Failure, NoCurrentExceptionError, format_frames


class Oops(Exception):
    """What these tests raise."""


class Worse(Oops):
    """Its subclass."""


def caught(error: BaseException | None = None, *, captureVars: bool = False) -> Failure:
    """Of an exception that was raised here."""
    local = "seen"
    try:
        raise error or Worse(local)
    except BaseException:
        return Failure(captureVars=captureVars)


class Unprintable(Exception):
    """Raises when it is shown."""

    def __str__(self) -> str:
        raise Oops

    __repr__ = __str__


def test_it_holds_what_is_being_handled() -> None:
    """Exception, class, traceback; NoCurrentExceptionError where there is none."""
    failure = caught()
    assert (failure.type, failure.value.args) == (Worse, ("seen",))
    assert [frame[0] for frame in failure.frames] == ["caught"]
    assert failure.getTracebackObject() is failure.tb is failure.value.__traceback__
    with pytest.raises(NoCurrentExceptionError):
        Failure()


def test_check_names_the_first_that_fits() -> None:
    """Classes, their bases, qualified names; None if none does. `trap` raises the exception then."""
    failure = caught()
    assert failure.check(ValueError, Oops, Worse) is Oops
    assert failure.check(f"{__name__}.Oops") == f"{__name__}.Oops"
    assert failure.check(ValueError, "builtins.ValueError") is None
    assert failure.check() is None
    assert failure.trap(Worse) is Worse
    with pytest.raises(Worse) as raised:
        failure.trap(ValueError)
    assert raised.value is failure.value


def test_check_works_without_a_live_exception() -> None:
    """Out of a pickle, after cleanFailure, or made of a name as what another process sends may be."""
    cleaned = caught()
    cleaned.cleanFailure()
    made = Failure("what it says", f"{__name__}.Worse")
    for failure in (pickle.loads(pickle.dumps(caught())), cleaned):
        assert failure.tb is None
        assert failure.check(ValueError, Oops) is Oops
        assert failure.check(f"{__name__}.Worse")
    assert made.check(Worse) is Worse
    assert made.check(f"{__name__}.Worse")
    assert made.check(ValueError, "builtins.ValueError") is None
    assert made.getErrorMessage() == "what it says"


def test_a_pickle_keeps_the_frames_as_text() -> None:
    """With the variables, if they were captured, and tools can still extract a traceback."""
    failure = pickle.loads(pickle.dumps(caught(captureVars=True)))
    assert [entry.name for entry in traceback.extract_tb(failure.getTracebackObject())] == ["caught"]
    assert "local : \"'seen'\"" in failure.getTraceback(detail="verbose")
    assert "(pickled)" in failure.getTraceback(detail="verbose")


def test_it_is_shown_as_python_shows_an_exception_or_shorter() -> None:
    """By detail, to a file; another detail is a ValueError."""
    failure = caught()
    assert failure.getTraceback().startswith("Traceback (most recent call last):\n")
    assert failure.getTraceback().endswith(f"raise error or Worse(local)\n{__name__}.Worse: seen\n")
    assert failure.getBriefTraceback().splitlines()[0].endswith("Worse'>: seen")
    assert "Capture of Locals and Globals disabled" in failure.getTraceback(detail="verbose")
    assert failure.getErrorMessage() == "seen"
    assert repr(failure) == f"<plait.classic.python.failure.Failure {__name__}.Worse: seen>"
    file = StringIO()
    failure.printTraceback(file)
    assert file.getvalue() == failure.getTraceback()
    with pytest.raises(ValueError, match="none of default, brief"):
        format_frames(failure.frames, file.write, "long")


def test_an_exception_that_cannot_be_shown_is_shown_all_the_same() -> None:
    """By its class and what it raised instead."""
    failure = caught(Unprintable())
    assert "Unprintable instance at" in failure.getErrorMessage()
    assert "Unprintable" in failure.getTraceback()
    assert "Unprintable" in repr(failure)


def test_it_can_be_raised_again_and_thrown_into_a_generator() -> None:
    """With the traceback it had."""
    failure = caught()
    with pytest.raises(Worse) as raised:
        failure.raiseException()
    assert "caught" in [entry.name for entry in raised.traceback]

    def catches() -> Any:
        try:
            yield
        except Worse as error:
            yield error

    generator = catches()
    next(generator)
    assert failure.throwExceptionIntoGenerator(generator) is failure.value


def test_one_of_another_is_a_copy() -> None:
    """With the same exception and attributes, and a life of its own."""
    failure: Any = caught()
    failure.note = "kept"
    copy = Failure(failure)
    assert (copy.value, copy.tb, vars(copy)["note"]) == (failure.value, failure.tb, "kept")
    copy.cleanFailure()
    assert failure.tb is not None
    assert copy.value.__traceback__ is None
