"""Failure: an exception as a value, to be handed on, looked at, and raised again later.

Rules: making one stores the exception and its traceback and does nothing else, since most are handled without
anybody looking. Frames, names of classes and text are made when they are asked for. `captureVars` alone looks at the
frames at once, because variables change. Nothing here raises while it shows an error, whatever the exception does.
"""

from __future__ import annotations

import copyreg
import linecache
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from importlib import import_module
from inspect import getmro, isclass
from io import StringIO
from itertools import count
from types import TracebackType
from typing import Any, ClassVar, NoReturn, TypeAlias, TypeVar

from plait.classic.python._fakes import _Code, _Frame, _Traceback, _TracebackFrame
from plait.classic.python._shown import deprecated, qual, safe_repr, safe_str

__all__ = [
    "EXCEPTION_CAUGHT_HERE",
    "DefaultException",
    "Failure",
    "NoCurrentExceptionError",
    "_Code",
    "_Frame",
    "_Traceback",
    "_TracebackFrame",
    "format_frames",
    "startDebugMode",
]

_Yield = TypeVar("_Yield")
Items: TypeAlias = Sequence[tuple[str, Any]]
FrameRow: TypeAlias = tuple[str, str, int, Items, Items]
"""Function, file, line, items of the locals and of the globals; those two are empty unless they were captured."""

EXCEPTION_CAUGHT_HERE = "--- <exception caught here> ---"
DO_POST_MORTEM = True
"""Whether `startDebugMode` opens the debugger."""

_NEITHER_CAPTURED = " [Capture of Locals and Globals disabled (use captureVars=True)]\n"

_numbers = count(1)
_debug_mode = False


class DefaultException(Exception):
    """Stands for an error of which nothing is known."""


class NoCurrentExceptionError(Exception):
    """A Failure was to be made of the exception that is being handled, and none is."""


class Diverts:
    """What does not simply go to the next callback: a Failure, or a Deferred to wait for.

    A base of both, whose subclasses are all in `kinds`: looking there is what tells fastest that a result is neither.
    """

    __slots__ = ()

    kinds: ClassVar[set[type]] = set()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Diverts.kinds.add(cls)


_KINDS = Diverts.kinds


class Failure(Diverts, BaseException):
    """An exception with its traceback, as an object.

    `value` is the exception, `type` its class, `tb` its traceback or None, `count` the number of this Failure in this
    process. Without `exc_value` it is made of the exception that is being handled (NoCurrentExceptionError if there
    is none); of another Failure it becomes a copy. `captureVars` keeps the locals and globals of all frames, which is
    slow, for the verbose traceback.
    """

    # Slots, because a Failure is made for every error and storing in them costs a tenth of storing in a dictionary.
    # `_frames` and `_parents` stay empty until somebody asks, or sets them.
    __slots__ = ("_frames", "_parents", "captureVars", "count", "tb", "type", "value")

    value: Any
    type: Any
    tb: TracebackType | None
    captureVars: bool
    count: int
    pickled = 0
    """Whether it has been in a pickle, or was cleaned."""
    _frames: Sequence[FrameRow]
    _parents: list[str]

    def __init__(
        self,
        exc_value: Any = None,
        exc_type: Any = None,
        exc_tb: TracebackType | None = None,
        captureVars: bool = False,
    ) -> None:
        if exc_value is None:
            exc_value, exc_tb = _current()
            exc_type = None
        if exc_type is None:
            exc_type = type(exc_value)
            if exc_type in _KINDS and isinstance(exc_value, Failure):
                self.__setstate__(vars(exc_value))
                return
        if exc_tb is None:
            try:
                exc_tb = exc_value.__traceback__
            except AttributeError:  # no exception at all, which is put up with
                pass
        self.count = next(_numbers)
        self.type = exc_type
        self.value = exc_value
        self.tb = exc_tb
        self.captureVars = captureVars
        if captureVars:
            self._frames = _rows(exc_tb, captured=True)

    @classmethod
    def _withoutTraceback(cls, value: BaseException) -> Failure:
        return cls(value)

    # -- what it holds -------------------------------------------------------------------------------------------

    @property
    def frames(self) -> Sequence[FrameRow]:
        """The frames of the traceback, outermost first."""
        try:
            return self._frames
        except AttributeError:
            self._frames = _rows(self.tb, captured=False)
            return self._frames

    @frames.setter
    def frames(self, frames: Sequence[FrameRow]) -> None:
        self._frames = frames

    @property
    def parents(self) -> list[str]:
        """The qualified names of the exception's class and all its bases."""
        try:
            return self._parents
        except AttributeError:
            is_exception = isclass(self.type) and issubclass(self.type, BaseException)
            self._parents = [qual(kind) for kind in getmro(self.type)] if is_exception else [self.type]
            return self._parents

    @parents.setter
    def parents(self, parents: list[str]) -> None:
        self._parents = parents

    @property
    def stack(self) -> list[FrameRow]:
        """Always empty."""
        deprecated("python.failure.Failure.stack", "24.10.0")
        return []

    @stack.setter
    def stack(self, stack: object) -> None:
        deprecated("python.failure.Failure.stack", "24.10.0")

    # -- what it is asked ----------------------------------------------------------------------------------------

    def trap(self, *errorTypes: Any) -> Any:
        """The one of `errorTypes` that fits, as `check`; if none does, the exception is raised again."""
        return self.check(*errorTypes) or self.raiseException()

    def check(self, *errorTypes: Any) -> Any:
        """The first of `errorTypes`, classes or their qualified names, that the exception is one of; else None.

        Classes of one qualified name count as the same, since this may have come from another process.
        """
        for wanted in errorTypes:
            if isclass(wanted) and issubclass(wanted, BaseException):
                if wanted in getattr(self.type, "__mro__", ()) or qual(wanted) in self.parents:
                    return wanted
            elif wanted in self.parents:
                return wanted
        return None

    def raiseException(self) -> NoReturn:
        """Raise the exception, with the traceback it had."""
        raise self.value.with_traceback(self.tb)

    def throwExceptionIntoGenerator(self, g: Generator[_Yield, Any, Any]) -> _Yield:
        """What the generator yields when the exception, with its traceback, is thrown into it."""
        return g.throw(self.value.with_traceback(self.tb))

    def getErrorMessage(self) -> str:
        """What the exception says."""
        if isinstance(self.value, Failure):
            return self.value.getErrorMessage()
        return safe_str(self.value)

    def getTracebackObject(self) -> Any:
        """What `traceback.extract_tb` takes: the traceback, or after `cleanFailure` one that looks the same."""
        if self.tb is not None:
            return self.tb
        return _Traceback(self.frames) if self.frames else None

    def cleanFailure(self) -> None:
        """Let go of all objects: the traceback, that of the exception too, and captured variables become text."""
        self.__setstate__(self.__getstate__())
        self.args = ()
        if getattr(self.value, "__traceback__", None):
            self.value.__traceback__ = None

    # -- as text -------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<{qual(type(self))} {qual(self.type)}: {self.getErrorMessage()}>"

    def __str__(self) -> str:
        return f"[Failure instance: {self.getBriefTraceback()}]"

    def getBriefTraceback(self) -> str:
        """What `printBriefTraceback` prints."""
        return self.getTraceback(detail="brief")

    def getTraceback(self, elideFrameworkCode: int = 0, detail: str = "default") -> str:
        """What `printTraceback` prints."""
        text = StringIO()
        self.printTraceback(text, elideFrameworkCode, detail)
        return text.getvalue()

    def printTraceback(self, file: Any = None, elideFrameworkCode: Any = False, detail: str = "default") -> None:
        """Write the traceback to a file with a `write`, else to the log, as errors.

        `detail` is "default", which is Python's own form, "brief", or "verbose", with the variables if they were
        captured. ValueError for another one.
        """
        if file is None:
            file = import_module("plait.classic.python.log").logerr
        if detail == "verbose" and not self.captureVars:
            detail = "verbose-vars-not-captured"
        opening, closing = self._around(detail)
        file.write(opening)
        if self.frames:
            format_frames(self.frames, file.write, detail)
        file.write(closing)

    def _around(self, detail: str) -> tuple[str, str]:
        """What stands before and after the frames."""
        if detail == "brief":
            what = "Traceback" if self.frames else "Traceback (failure with no frames)"
            return f"{what}: {safe_str(self.type)}: {safe_str(self.value)}\n", ""
        kind = qual(self.type) if isclass(self.type) else safe_str(self.type)
        last = f"{kind}: {safe_str(self.value)}\n"
        if not self.frames:
            last = f"Failure: {last}"
        if not detail.startswith("verbose"):
            return "Traceback (most recent call last):\n", last
        number = f"Failure #{self.count}"
        return f"*--- {number}{' (pickled) ' if self.pickled else ' '}---\n", f"{last}*--- End of {number} ---\n"

    def printBriefTraceback(self, file: Any = None, elideFrameworkCode: Any = 0) -> None:
        """`printTraceback` with a line a frame."""
        self.printTraceback(file, elideFrameworkCode, detail="brief")

    def printDetailedTraceback(self, file: Any = None, elideFrameworkCode: Any = 0) -> None:
        """`printTraceback` with the variables."""
        self.printTraceback(file, elideFrameworkCode, detail="verbose")

    # -- as a dictionary, to be pickled and copied ---------------------------------------------------------------

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """All attributes, as if they stood in one dictionary. It is a copy."""
        held = {name: getattr(self, name) for name in _ALWAYS if hasattr(self, name)}
        held.update((name, getattr(self, name)) for name in ("_frames", "_parents") if hasattr(self, name))
        return {**held, **_own_dict(self)}

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: all but the traceback; variables as text."""
        state = vars(self)
        state.pop("_frames", None)
        state.pop("_parents", None)
        frames = [(*row[:3], _as_text(row[3]), _as_text(row[4])) for row in self.frames]
        return {**state, "tb": None, "frames": frames, "parents": self.parents, "pickled": 1}

    def __setstate__(self, state: Mapping[str, Any] | None) -> None:
        for name, value in (state or {}).items():
            if name != "stack":
                setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]


_bare: Callable[[type[Failure]], Failure] = BaseException.__new__


def failure_of(error: BaseException, caught: bool = False, captureVars: bool = False) -> Failure:
    """`Failure(error)` at half its cost, where no variables are captured and no debugger is to be opened.

    With `caught`, the caller has just caught it: the caller's own frame is left out, if there are others.
    """
    tb = error.__traceback__
    if caught and tb is not None:
        tb = tb.tb_next or tb
    if captureVars or _debug_mode:
        return Failure(error, None, tb, captureVars)
    failure = _bare(Failure)
    failure.count = next(_numbers)
    failure.type = type(error)
    failure.value = error
    failure.tb = tb
    failure.captureVars = False
    return failure


_ALWAYS = ("count", "type", "value", "captureVars", "tb")
_own_dict: Callable[[BaseException], dict[str, Any]] = BaseException.__dict__["__dict__"].__get__


def _current() -> tuple[BaseException, TracebackType | None]:
    """The exception that is being handled."""
    value = sys.exc_info()[1]
    if value is None:
        raise NoCurrentExceptionError
    return value, value.__traceback__


def _rows(tb: TracebackType | None, *, captured: bool) -> list[FrameRow]:
    """One row a frame of a traceback."""
    rows: list[FrameRow] = []
    while tb is not None:
        frame = tb.tb_frame
        variables: tuple[Items, Items] = ((), ())
        if captured:
            variables = list(frame.f_locals.items()), list(frame.f_globals.items())
        rows.append((frame.f_code.co_name, frame.f_code.co_filename, tb.tb_lineno, *variables))
        tb = tb.tb_next
    return rows


def _as_text(variables: Items) -> Items:
    return [(name, safe_repr(value)) for name, value in variables] if variables else variables


# -- printing frames --------------------------------------------------------------------------------------------


def format_frames(frames: Iterable[FrameRow], write: Callable[[str], object], detail: str = "default") -> None:
    """Write rows as `Failure.frames` has them.

    `detail` is "default", "brief", "verbose", or "verbose-vars-not-captured"; ValueError for another one.
    """
    one_frame = _DETAILS.get(detail)
    if one_frame is None:
        raise ValueError(f"detail {detail!r} is none of {', '.join(_DETAILS)}")
    for row in frames:
        one_frame(write, *row)
    if detail == "verbose-vars-not-captured":
        write(_NEITHER_CAPTURED)


def _brief(write: Callable[[str], object], name: str, file: str, line: int, *_: Items) -> None:
    write(f"{file}:{line}:{name}\n")


def _default(write: Callable[[str], object], name: str, file: str, line: int, *_: Items) -> None:
    write(f'  File "{file}", line {line}, in {name}\n')
    write(f"    {linecache.getline(file, line).strip()}\n")


def _without_variables(write: Callable[[str], object], name: str, file: str, line: int, *_: Items) -> None:
    write(f"{file}:{line}: {name}(...)\n")


def _verbose(write: Callable[[str], object], name: str, file: str, line: int, *variables: Items) -> None:
    _without_variables(write, name, file, line)
    for title, items in zip((" [ Locals ]\n", " ( Globals )\n"), variables, strict=True):
        write(title)
        for variable, value in items:
            write(f"  {variable} : {safe_repr(value)}\n")


_DETAILS = {
    "default": _default,
    "brief": _brief,
    "verbose": _verbose,
    "verbose-vars-not-captured": _without_variables,
}

# -- debugging --------------------------------------------------------------------------------------------------

_plain_init = Failure.__init__


def _init_and_debug(
    self: Failure,
    exc_value: Any = None,
    exc_type: Any = None,
    exc_tb: TracebackType | None = None,
    captureVars: bool = False,
) -> None:
    """As `Failure.__init__`, which it replaces, after the debugger has been open at the exception."""
    if exc_value is None:
        exc_value, exc_tb = _current()
    tb = exc_tb if exc_tb is not None else getattr(exc_value, "__traceback__", None)
    if DO_POST_MORTEM and tb is not None and not isinstance(exc_value, Failure):
        print(f"{type(exc_value).__name__} at {tb.tb_frame.f_code.co_filename}:{tb.tb_lineno}", file=sys.stderr)  # noqa: T201
        import_module("pdb").post_mortem(tb)
    _plain_init(self, exc_value, exc_type, exc_tb, captureVars)


def startDebugMode() -> None:
    """From now on, open pdb at the exception whenever a Failure is made of one that has a traceback."""
    global _debug_mode
    _debug_mode = True
    Failure.__init__ = _init_and_debug  # type: ignore[method-assign]
