"""Every error Plait raises, in one tree.

Rules: a message names the subject, says what happened, and gives the cure. The type says who is to blame:
`UsageError` the person who typed a command or wrote a file, `InvalidTree` the author of a composition,
`LifecycleError` the caller of a method at the wrong moment, `ServiceError` the service itself. Where several
things went wrong at once they come in an `ExceptionGroup`, root cause first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class PlaitError(Exception):
    """The root of the tree; catch it to catch everything Plait itself complains about."""


# -- what was asked for cannot be done as it was asked: exit code 2 ---------------------------------------------


class UsageError(PlaitError):
    """A command line, a configuration file or an environment that cannot be followed."""


class TargetNotFound(UsageError):
    """No module, file, attribute or plugin answers to the name of a target."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one value: where it came from, which key, what it was and what was expected.

    `source` is for people: "--port", "ECHO_PORT", "echo.toml [db]". `value` is already masked if it is secret.
    """

    source: str
    key: str
    value: str
    expected: str

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        return f"{self.source}: {self.key}{shown}: {self.expected}"


class OptionsError(UsageError):
    """Options that do not fit their declaration; `problems` holds every one of them, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class MissingExtra(UsageError, ImportError):
    """A feature was asked for whose optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra that is not installed; run: pip install 'plait[{extra}]'")


class EndpointError(UsageError, ValueError):
    """A text that is no endpoint URL, or one that means nothing where it stands."""


# -- the application cannot be made: exit code 3 ----------------------------------------------------------------


class TargetFailed(PlaitError):
    """Importing the target's module, or calling its factory, raised; the cause is chained."""


class InvalidTree(PlaitError):
    """A composition that cannot be started: a name used twice, an unknown need, a cycle. Nothing was touched."""


class ListenError(PlaitError, OSError):
    """An address that could not be listened on; `errno` is the system's, and the message says what to do."""


# -- the wrong moment -------------------------------------------------------------------------------------------


class LifecycleError(PlaitError, RuntimeError):
    """A method of the lifecycle was called in a state in which it means nothing."""


class IllegalTransition(LifecycleError):
    """A move that is not in the state table. Seen from outside the kernel, it is a defect in Plait."""

    def __init__(self, subject: str, old: str, new: str) -> None:
        super().__init__(f"{subject} cannot go from {old} to {new}")


class StartInterrupted(LifecycleError):
    """The service was told to stop while it was starting; whoever waited for the start gets this."""


class CannotPause(LifecycleError):
    """A service was told to pause that neither has on_pause and on_resume, nor asks `unpaused()` in its run."""


class ServicePaused(LifecycleError):
    """A client that is paused was asked for its connection, and refuses instead of letting its caller wait."""


# -- operating a running application ----------------------------------------------------------------------------


class NotRunning(UsageError):
    """No running application answers to the name or number that was given, or several do."""


class ControlError(PlaitError):
    """A running application did not do what it was told, or did not answer."""


class CommandFailed(ControlError):
    """A running application says that a command has failed; `code` is what the command line exits with."""

    def __init__(self, message: str, code: int = 70) -> None:
        self.code = code
        super().__init__(message)


class NoAnswer(ControlError, TimeoutError):
    """A running application did not answer in time: its loop is held up, or the process is stopped."""


class ProtocolError(ControlError):
    """Two processes that do not understand each other; the connection between them is of no use any more."""


# -- a service failed -------------------------------------------------------------------------------------------


class ServiceError(PlaitError):
    """One incarnation of one service went wrong."""


class ServiceCancelled(ServiceError):
    """The service's task was cancelled by somebody other than Plait, which counts as a failure."""


class StartTimeout(ServiceError, TimeoutError):
    """A service was not ready within its `start_timeout`."""


class StopTimeout(ServiceError, TimeoutError):
    """A service did not stop within its `stop_timeout`; if it ignored its cancellation, its task still runs."""


class HookTimeout(ServiceError, TimeoutError):
    """A hook that is called beside `run` took too long."""


class PauseTimeout(HookTimeout):
    """`on_pause` or `on_resume` took longer than `pause_timeout`."""


class CheckTimeout(HookTimeout):
    """A `check` took longer than `check_timeout`; nothing follows but that the service is unready."""


class DoNotRestart(ServiceError):
    """A service raises this where starting it again would not help: it stays failed, whatever its policy says."""


class Escalate(ServiceError):
    """A service raises this where its whole group should end: the group gives up at once, and fails of it."""


class ClientGaveUp(ServiceError, ConnectionError):
    """A client could not connect in as many attempts as it was allowed; the last error is chained."""


class StartFailed(ExceptionGroup[Exception]):
    """The application, or a service added to it, did not start; what had started was stopped again.

    The first exception is the root cause; the others are what it made fail, and errors of the roll-back.
    """

    def derive(self, excs: Sequence[Exception], /) -> StartFailed:  # type: ignore[override]
        return StartFailed(self.message, excs)


class ApplicationFailed(ExceptionGroup[Exception]):
    """A running application stopped because a service failed, or did not stop as it should."""

    def derive(self, excs: Sequence[Exception], /) -> ApplicationFailed:  # type: ignore[override]
        return ApplicationFailed(self.message, excs)


class PauseFailed(ExceptionGroup[Exception]):
    """What was to be paused or resumed failed of it, and is treated as any failure; the others went on."""

    def derive(self, excs: Sequence[Exception], /) -> PauseFailed:  # type: ignore[override]
        return PauseFailed(self.message, excs)


class ReloadFailed(PlaitError):
    """A reload came to nothing, and everything is as it was; the cause is chained."""


class StopFailed(ExceptionGroup[Exception]):
    """A service stopped because it was told to, but not cleanly; it is at rest all the same."""

    def derive(self, excs: Sequence[Exception], /) -> StopFailed:  # type: ignore[override]
        return StopFailed(self.message, excs)


# -- a test went wrong ------------------------------------------------------------------------------------------


class Deadlock(PlaitError, RuntimeError):
    """On a virtual clock everything waits, and nothing is due; the message names each task and the line it is at."""


class Leaked(PlaitError, AssertionError):
    """Something was left behind; `left` names each thing."""

    def __init__(self, left: Sequence[str]) -> None:
        self.left = tuple(left)
        super().__init__("left behind:\n" + "\n".join(f"  {one}" for one in left))


class NotSeen(PlaitError, AssertionError):
    """An event that a test waited for did not happen; the message says what did."""


class RunFailed(ExceptionGroup[Exception]):
    """What an application did that the test running it did not expect: services that failed, what would not stop."""

    def derive(self, excs: Sequence[Exception], /) -> RunFailed:  # type: ignore[override]
        return RunFailed(self.message, excs)


class InjectedFault(PlaitError, RuntimeError):
    """What a hook raises that a test told to fail, and gave no error of its own."""
