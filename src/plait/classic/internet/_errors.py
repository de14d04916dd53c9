"""What Deferreds, and what is built of them, complain about."""

from __future__ import annotations


class AlreadyCalledError(Exception):
    """A Deferred was fired a second time. Under `setDebugging` it says who made it and who fired it first."""


class CancelledError(Exception):
    """What a Deferred comes to when it is cancelled and its canceller fires nothing else."""


class TimeoutError(Exception):
    """What a Deferred comes to when the time of its `addTimeout` is up, or a lock could not be had in time."""


class NotACoroutineError(TypeError):
    """What should have been a coroutine is something else."""


class QueueOverflow(Exception):
    """Something was put into a DeferredQueue that is full."""


class QueueUnderflow(Exception):
    """Somebody asked a DeferredQueue where as many wait as may."""


class AlreadyTryingToLockError(Exception):
    """A lock was waited for twice at once."""
