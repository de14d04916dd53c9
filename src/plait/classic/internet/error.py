"""The errors of networks, processes and the reactor, with Twisted's names and meanings.

Rules: what `str()` gives is part of the interface (programs match it): a fixed sentence for each kind, then whatever
the error was made with. The sentences stand in one table, and every kind of the tree below `_Said` reads its own there.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, ClassVar


class _Said(Exception):
    """An error whose text is its kind's sentence, and its arguments after a colon."""

    MESSAGE: ClassVar[str] = ""

    def __str__(self) -> str:
        said = " ".join(self._details())
        return f"{self.MESSAGE}: {said}." if said else f"{self.MESSAGE}."

    def _details(self) -> list[str]:
        return [str(argument) for argument in self.args]


# -- binding and connecting -------------------------------------------------------------------------------------


class BindError(_Said):
    """An address could not be bound."""

    MESSAGE = "An error occurred binding to an interface"


class CannotListenError(BindError):
    """A port could not be opened: `interface`, `port`, and the system's own error as `socketError`."""

    def __init__(self, interface: Any, port: Any, socketError: Any) -> None:
        super().__init__(interface, port, socketError)
        self.interface = interface
        self.port = port
        self.socketError = socketError

    def __str__(self) -> str:
        return f"Couldn't listen on {self.interface or 'any'}:{self.port}: {self.socketError}."


class MulticastJoinError(Exception):
    """A multicast group could not be joined or left."""


class MessageLengthError(_Said):
    """A datagram was longer than the system sends."""

    MESSAGE = "Message is too long to send"


class DNSLookupError(_Said, OSError):
    """A name has no address."""

    MESSAGE = "DNS lookup failed"

    def __str__(self) -> str:
        return _Said.__str__(self)


class ConnectInProgressError(Exception):
    """A connection is being made already."""


class ConnectError(_Said):
    """A connection could not be made; `osError` is the system's reason, if there is one."""

    MESSAGE = "An error occurred while connecting"

    def __init__(self, osError: Any = None, string: str = "") -> None:
        self.osError = osError
        super().__init__(string)

    def _details(self) -> list[str]:
        told = [str(self.osError)] if self.osError else []
        if self.args[0]:
            told.append(str(self.args[0]))
        return [": ".join(told)] if told else []


class ConnectBindError(ConnectError):
    """The local address of a connection could not be bound."""

    MESSAGE = "Couldn't bind"


class UnknownHostError(ConnectError):
    """The host's name is not known."""

    MESSAGE = "Hostname couldn't be looked up"


class NoRouteError(ConnectError):
    """No network leads to the host."""

    MESSAGE = "No route to host"


class ConnectionRefusedError(ConnectError):
    """Nobody listens there."""

    MESSAGE = "Connection was refused by other side"


class TCPTimedOutError(ConnectError):
    """The system gave up on the connection."""

    MESSAGE = "TCP connection timed out"


class BadFileError(ConnectError):
    """The path of a UNIX socket is none, or may not be used."""

    MESSAGE = "File used for UNIX socket is no good"


class ServiceNameUnknownError(ConnectError):
    """A port was given by a service's name that the system does not know."""

    MESSAGE = "Service name given as port is unknown"


class UserError(ConnectError):
    """The program itself gave the attempt up."""

    MESSAGE = "User aborted connection"


class TimeoutError(UserError):
    """The connection was not made within the time the program gave it."""

    MESSAGE = "User timeout caused connection failure"


class SSLError(ConnectError):
    """TLS failed."""

    MESSAGE = "An SSL error occurred"


class VerifyError(_Said):
    """A signature could not be verified."""

    MESSAGE = "Could not verify something that was supposed to be signed."

    def __str__(self) -> str:
        return " ".join([self.MESSAGE, *map(str, self.args)])


class PeerVerifyError(VerifyError):
    """The other side did not accept our certificate."""

    MESSAGE = "The peer rejected our verify error."


class CertificateError(Exception):
    """There is no certificate where there should be one."""


_BY_NUMBER: dict[int, type[ConnectError]] = {
    errno.ENETUNREACH: NoRouteError,
    errno.EHOSTUNREACH: NoRouteError,
    errno.ECONNREFUSED: ConnectionRefusedError,
    errno.ETIMEDOUT: TCPTimedOutError,
}
_NO_SUCH_HOST = {getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_AGAIN") if hasattr(socket, name)}


def getConnectError(e: Any) -> ConnectError:
    """The kind of `ConnectError` that an exception, or a pair of number and text, stands for."""
    number, text = _number_and_text(e)
    if number is None:
        return ConnectError(string=e)
    if isinstance(e, socket.gaierror) or (number in _NO_SUCH_HOST and number not in errno.errorcode):
        return UnknownHostError(number, text)
    return _BY_NUMBER.get(number, ConnectError)(number, text)


def _number_and_text(e: Any) -> tuple[int | None, str]:
    if isinstance(e, Exception):
        parts: tuple[Any, ...] = e.args
    else:
        parts = tuple(e)
    if len(parts) == 2 and isinstance(parts[0], int):
        return parts[0], str(parts[1])
    return None, str(e)


# -- the end of a connection ------------------------------------------------------------------------------------


class ConnectionClosed(Exception):
    """A connection has ended, well or not: what `ConnectionDone` and `ConnectionLost` have in common."""


class ConnectionLost(_Said, ConnectionClosed):
    """A connection ended in a way nobody asked for."""

    MESSAGE = "Connection to the other side was lost in a non-clean fashion"


class ConnectionAborted(ConnectionLost):
    """This side ended the connection with abortConnection, unsent data and all."""

    MESSAGE = "Connection was aborted locally using ITCPTransport.abortConnection"


class ConnectionDone(_Said, ConnectionClosed):
    """A connection was closed in order, by either side."""

    MESSAGE = "Connection was closed cleanly"


class FileDescriptorOverrun(ConnectionLost):
    """More descriptors were queued on a UNIX connection than bytes to carry them; each needs one at least."""

    MESSAGE = "More file descriptors were sent with sendFileDescriptor than bytes that could carry them"


class ConnectionFdescWentAway(ConnectionLost):
    """The descriptor was closed behind the reactor's back."""

    MESSAGE = "Uh"


class ConnectingCancelledError(Exception):
    """A connection's Deferred was cancelled before there was a connection; `address` is where it would have led."""

    def __init__(self, address: Any) -> None:
        super().__init__(address)
        self.address = address


class NoProtocol(Exception):
    """A factory's buildProtocol returned None, so a connection that was made was dropped."""


# -- delayed calls, the reactor, ports ---------------------------------------------------------------------------


class AlreadyCalled(_Said, ValueError):
    """The call has been made."""

    MESSAGE = "Tried to cancel an already-called event"


class AlreadyCancelled(_Said, ValueError):
    """The call has been cancelled before."""

    MESSAGE = "Tried to cancel an already-cancelled event"


class NotConnectingError(_Said, RuntimeError):
    """A connector was told to stop connecting when it was not."""

    MESSAGE = "The Connector was not connecting when it was asked to stop connecting"


class NotListeningError(_Said, RuntimeError):
    """A port was told to stop listening when it was not."""

    MESSAGE = "The Port was not listening when it was asked to stop listening"


class ReactorNotRunning(RuntimeError):
    """What was asked needs a reactor that runs."""


class ReactorNotRestartable(RuntimeError):
    """The reactor was run and stopped in this process; it runs once."""


class ReactorAlreadyRunning(RuntimeError):
    """The reactor, or another program's event loop, runs in this thread already."""


class ReactorAlreadyInstalledError(AssertionError):
    """There is a reactor; a process has one."""


class AlreadyListened(Exception):
    """A service that listens once was told to listen again."""


class InvalidAddressError(ValueError):
    """A text that is no address of the kind that is wanted here."""

    def __init__(self, address: Any, message: str) -> None:
        super().__init__(address, message)
        self.address = address
        self.message = message


class UnsupportedAddressFamily(Exception):
    """A socket of a family that the reactor does not serve in this place."""


class UnsupportedSocketType(Exception):
    """A socket of a type that the reactor does not serve in this place."""


# -- processes --------------------------------------------------------------------------------------------------


class ProcessDone(ConnectionDone):
    """A process ended with exit code 0; `status` is what waitpid said."""

    MESSAGE = "A process has ended without apparent errors"

    def __init__(self, status: Any) -> None:
        super().__init__("process finished with exit code 0")
        self.exitCode = 0
        self.signal = None
        self.status = status


class ProcessTerminated(ConnectionLost):
    """A process ended with another exit code, or by a signal: `exitCode`, `signal`, and waitpid's `status`."""

    MESSAGE = "A process has ended with a probable error condition"

    def __init__(self, exitCode: int | None = None, signal: Any = None, status: Any = None) -> None:
        self.exitCode = exitCode
        self.signal = signal
        self.status = status
        text = "process ended"
        if exitCode is not None:
            text += f" with exit code {exitCode}"
        if signal is not None:
            text += f" by signal {signal}"
        super().__init__(text)


class ProcessExitedAlready(Exception):
    """There is no process to signal any more."""


__all__ = [
    "AlreadyCalled",
    "AlreadyCancelled",
    "AlreadyListened",
    "BadFileError",
    "BindError",
    "CannotListenError",
    "CertificateError",
    "ConnectBindError",
    "ConnectError",
    "ConnectInProgressError",
    "ConnectingCancelledError",
    "ConnectionAborted",
    "ConnectionClosed",
    "ConnectionDone",
    "ConnectionFdescWentAway",
    "ConnectionLost",
    "ConnectionRefusedError",
    "DNSLookupError",
    "FileDescriptorOverrun",
    "InvalidAddressError",
    "MessageLengthError",
    "MulticastJoinError",
    "NoProtocol",
    "NoRouteError",
    "NotConnectingError",
    "NotListeningError",
    "PeerVerifyError",
    "ProcessDone",
    "ProcessExitedAlready",
    "ProcessTerminated",
    "ReactorAlreadyInstalledError",
    "ReactorAlreadyRunning",
    "ReactorNotRestartable",
    "ReactorNotRunning",
    "SSLError",
    "ServiceNameUnknownError",
    "TCPTimedOutError",
    "TimeoutError",
    "UnknownHostError",
    "UnsupportedAddressFamily",
    "UnsupportedSocketType",
    "UserError",
    "VerifyError",
    "getConnectError",
]
