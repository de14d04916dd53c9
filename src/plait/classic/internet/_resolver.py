"""Names and their addresses.

Rules: the system's own resolver blocks, so it is asked in a thread of the reactor's pool. An address is its own name.
What looks up single addresses and what looks up all of them can each be made of the other.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from zope.interface import implementer

from plait.classic.internet import abstract, address, defer, error, interfaces
from plait.classic.python import log
from plait.classic.python.failure import Failure

_KINDS = {address.IPv4Address: socket.AF_INET, address.IPv6Address: socket.AF_INET6}
_TRANSPORTS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM}


def resolve(resolver: Any, name: str, timeout: Sequence[int]) -> defer.Deferred[str]:
    """A Deferred of the name's IPv4 address; of an address, itself; of nothing, the one that means all."""
    if not name:
        return defer.succeed("0.0.0.0")
    if abstract.isIPAddress(name):
        return defer.succeed(name)
    return resolver.getHostByName(name, timeout)  # type: ignore[no-any-return]


def in_thread(reactor: Any, pool: Any, call: Callable[..., Any], *args: Any) -> defer.Deferred[Any]:
    """A Deferred of what a call returns in a thread. Once it is cancelled, the call's result is dropped."""

    def returned(ok: bool, result: Any) -> None:
        reactor.callFromThread(deliver, ok, result)

    def deliver(ok: bool, result: Any) -> None:
        if not deferred.called:
            if ok:
                deferred.callback(result)
            else:
                deferred.errback(result)

    getattr(reactor, "_bind", bool)()  # the answer is for the loop that asks
    deferred: defer.Deferred[Any] = defer.Deferred()
    pool.callInThreadWithCallback(returned, call, *args)
    return deferred


@implementer(interfaces.IResolverSimple)
class ThreadedResolver:
    """Looks up one IPv4 address, in a thread."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor

    def getHostByName(self, name: str, timeout: Sequence[int] = (1, 3, 11, 45)) -> defer.Deferred[str]:
        """A Deferred of the address; it fails with `DNSLookupError`, after the sum of `timeout` at the latest."""
        allowed = sum(timeout) if timeout else 60
        deferred = in_thread(self.reactor, self.reactor.getThreadPool(), socket.gethostbyname, name)
        deferred.addTimeout(allowed, self.reactor)
        return deferred.addErrback(self._failed, name)

    def _failed(self, failure: Failure, name: str) -> Failure:
        if failure.check(defer.TimeoutError):
            why = f"timeout error: name {name!r} was not resolved"
        else:
            failure.trap(OSError, UnicodeError)
            why = f"address {name!r} not found: {failure.getErrorMessage()}"
        return Failure(error.DNSLookupError(why))


@implementer(interfaces.IResolverSimple)
class BlockingResolver:
    """Looks up one IPv4 address, and lets everything wait for it."""

    def getHostByName(self, name: str, timeout: Sequence[int] = ()) -> defer.Deferred[str]:
        """A Deferred that has fired: of the address, or with `DNSLookupError`."""
        try:
            return defer.succeed(socket.gethostbyname(name))
        except (OSError, UnicodeError) as raised:
            return defer.fail(error.DNSLookupError(f"address {name!r} not found: {raised}"))


@implementer(interfaces.IHostResolution)
class HostResolution:
    """One look-up that is under way."""

    def __init__(self, name: str, cancel: Callable[[], Any] | None = None) -> None:
        self.name = name
        self._cancel = cancel

    def cancel(self) -> None:
        """Stop; the receiver hears of the end."""
        if self._cancel is not None:
            self._cancel()


@implementer(interfaces.IHostnameResolver)
class GAIResolver:
    """Looks up all addresses with the system's getaddrinfo, in a thread."""

    def __init__(
        self,
        reactor: Any,
        getThreadPool: Callable[[], Any] | None = None,
        getaddrinfo: Callable[..., Any] | None = None,
    ) -> None:
        self.reactor = reactor
        self._pool = getThreadPool
        self._getaddrinfo = getaddrinfo

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Look a name up for a receiver; the look-up."""
        look_up = self._getaddrinfo or socket.getaddrinfo
        pool = self._pool() if self._pool is not None else self.reactor.getThreadPool()
        deferred = in_thread(
            self.reactor,
            pool,
            look_up,
            hostName,
            portNumber,
            _family(addressTypes),
            _TRANSPORTS[transportSemantics],
        )
        resolution = HostResolution(hostName, deferred.cancel)
        resolutionReceiver.resolutionBegan(resolution)
        deferred.addCallbacks(
            lambda found: tell(resolutionReceiver, found, transportSemantics),
            lambda _: None,  # a name without addresses
        ).addBoth(lambda _: resolutionReceiver.resolutionComplete())
        return resolution


def _family(addressTypes: Sequence[type] | None) -> int:
    families = {_KINDS[kind] for kind in addressTypes} if addressTypes else set(_KINDS.values())
    return families.pop() if len(families) == 1 else int(socket.AF_UNSPEC)


def tell(receiver: Any, found: Any, transport: str) -> None:
    """Tell a receiver of the addresses that getaddrinfo has found."""
    kinds = {family: kind for kind, family in _KINDS.items()}
    for family, _, _, _, where in found:
        if family in kinds:
            receiver.addressResolved(kinds[family](transport, *where))


@implementer(interfaces.IHostnameResolver)
class SimpleResolverComplexifier:
    """Looks up all addresses by what looks up one."""

    def __init__(self, simpleResolver: Any) -> None:
        self._simple = simpleResolver

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Look a name up for a receiver; the look-up. The one address is given if its kind is wanted."""
        resolution = HostResolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def found(where: str) -> None:
            kind = address.IPv6Address if abstract.isIPv6Address(where) else address.IPv4Address
            if addressTypes is None or kind in addressTypes:
                resolutionReceiver.addressResolved(kind(transportSemantics, where, portNumber))  # type: ignore[arg-type]

        deferred = defer.maybeDeferred(lambda: self._simple.getHostByName(_encoded(hostName)))
        resolution._cancel = deferred.cancel
        deferred.addCallback(found).addErrback(_unless_unknown).addBoth(
            lambda _: resolutionReceiver.resolutionComplete()
        )
        return resolution


def _encoded(name: str) -> str:
    """An international name as it is looked up."""
    return name if name.isascii() else name.encode("idna").decode()


def _unless_unknown(failure: Failure) -> None:
    """A name that is not known, or is none, has no addresses; anything else is a defect, and logged."""
    if not failure.check(error.DNSLookupError, OSError, UnicodeError, defer.CancelledError):
        log.err(failure, "while looking up a name")


@implementer(interfaces.IResolutionReceiver)
class FirstOneWins:
    """Hears of addresses, and fires a Deferred with the first."""

    def __init__(self, deferred: defer.Deferred[str]) -> None:
        self._deferred = deferred
        self._is_over = False

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        """It has begun."""
        self._resolution = resolutionInProgress

    def addressResolved(self, address: Any) -> None:
        """One more."""
        if not self._is_over:
            self._is_over = True
            self._deferred.callback(address.host)

    def resolutionComplete(self) -> None:
        """No more."""
        if not self._is_over:
            self._is_over = True
            self._deferred.errback(error.DNSLookupError(self._resolution.name))


@implementer(interfaces.IResolverSimple)
class ComplexResolverSimplifier:
    """Looks up one IPv4 address by what looks up all."""

    def __init__(self, nameResolver: Any) -> None:
        self._nameResolver = nameResolver

    def getHostByName(self, name: str, timeout: Sequence[int] = ()) -> defer.Deferred[str]:
        """A Deferred of the first."""
        deferred: defer.Deferred[str] = defer.Deferred()
        self._nameResolver.resolveHostName(
            FirstOneWins(deferred), name, 0, [address.IPv4Address], transportSemantics="TCP"
        )
        return deferred
