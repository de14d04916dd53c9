"""Deferreds: results that are not there yet, their callbacks, and what is built of them. Twisted's names.

`Deferred` itself is in `_deferred`, coroutines that wait for one in `_coroutines`, what makes one in `_making`, several
at once in `_groups`, locks and queues in `_locks`; all of it is to be imported from here.
"""

from __future__ import annotations

from plait.classic.internet._coroutines import ensureDeferred, inlineCallbacks, returnValue
from plait.classic.internet._debugging import DebugInfo
from plait.classic.internet._deferred import Deferred, getDebugging, passthru, setDebugging, succeed
from plait.classic.internet._errors import (
    AlreadyCalledError,
    AlreadyTryingToLockError,
    CancelledError,
    NotACoroutineError,
    QueueOverflow,
    QueueUnderflow,
    TimeoutError,
)
from plait.classic.internet._groups import (
    FAILURE,
    SUCCESS,
    DeferredList,
    FailureGroup,
    FirstError,
    gatherResults,
    race,
)
from plait.classic.internet._locks import DeferredFilesystemLock, DeferredLock, DeferredQueue, DeferredSemaphore
from plait.classic.internet._making import execute, fail, logError, maybeDeferred, timeout
from plait.classic.python.failure import Failure

__all__ = [
    "FAILURE",
    "SUCCESS",
    "AlreadyCalledError",
    "AlreadyTryingToLockError",
    "CancelledError",
    "DebugInfo",
    "Deferred",
    "DeferredFilesystemLock",
    "DeferredList",
    "DeferredLock",
    "DeferredQueue",
    "DeferredSemaphore",
    "Failure",
    "FailureGroup",
    "FirstError",
    "NotACoroutineError",
    "QueueOverflow",
    "QueueUnderflow",
    "TimeoutError",
    "ensureDeferred",
    "execute",
    "fail",
    "gatherResults",
    "getDebugging",
    "inlineCallbacks",
    "logError",
    "maybeDeferred",
    "passthru",
    "race",
    "returnValue",
    "setDebugging",
    "succeed",
    "timeout",
]

for _name in __all__:
    _value = globals()[_name]
    if getattr(_value, "__module__", "").startswith("plait.classic.internet._"):
        _value.__module__ = __name__  # where its users find it
