"""TLS over any transport, by the standard library's ssl.

Rules: bytes go through an `ssl.SSLObject` and two buffers in memory, so TLS can begin at any moment, over any
transport, TLS included. What is written before the handshake is over is kept. A connection is closed by telling the
other end (close_notify) and waiting for its answer; an end of the stream without one is `ConnectionLost`, since
somebody may have cut it short.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from zope.interface import alsoProvides, directlyProvides, implementer, providedBy

from plait.classic.internet import error, interfaces, main
from plait.classic.internet.abstract import encoded, joined, prefix_of
from plait.classic.protocols.policies import ProtocolWrapper, WrappingFactory
from plait.classic.python.failure import Failure

READ_SIZE = 2**16
MAX_UNSENT = 2**16
"""How many bytes are kept during the handshake before a producer is paused."""


@implementer(interfaces.ISystemHandle, interfaces.INegotiated)
class TLSMemoryBIOProtocol(ProtocolWrapper):
    """A protocol over TLS: to its transport a protocol, to the wrapped protocol the transport."""

    connected: bool | int = False

    def __init__(self, factory: Any, wrappedProtocol: Any, _connectWrapped: bool = True) -> None:
        ProtocolWrapper.__init__(self, factory, wrappedProtocol)
        self._connectWrapped = _connectWrapped
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: Any = None
        self._unsent: list[bytes] = []
        """What was written before the handshake is over."""
        self._unsent_size = 0
        self._is_held = False
        """Whether the producer was paused because of that."""
        self._producer: Any = None
        self._streaming = False
        self._reason: Failure | None = None
        self._is_shaken = False
        self._verify: Callable[[ssl.SSLObject], None] | None = None
        self._is_paused = False
        self._is_reading = False
        self._has_ended = False
        """Whether the other end has said that it sends no more."""
        self._is_shut = False
        """Whether we have."""
        self._is_aborted = False
        self._front: Any = None
        """The connection in whose middle TLS began, where it is one that lets itself be called disconnecting early."""

    # -- the beginning ------------------------------------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        """Begin the handshake; the wrapped protocol is connected at once, and may write."""
        directlyProvides(self, providedBy(transport))
        alsoProvides(self, interfaces.INegotiated, interfaces.ISystemHandle)
        self.transport = transport
        self.connected = True
        self._tls = self.factory._createConnection(self)
        self.factory.registerProtocol(self)
        if self._connectWrapped:
            self.wrappedProtocol.makeConnection(self)
        self._go_on()

    def wrap(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        verify: Callable[[ssl.SSLObject], None] | None = None,
    ) -> ssl.SSLObject:
        """An object that speaks TLS by this context through this protocol's buffers: what a maker of connections
        (`serverConnectionForTLS`, `clientConnectionForTLS`) returns. `verify` is called after the handshake, and raises
        an `ssl.CertificateError` where that will not do."""
        self._verify = verify
        return context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )

    # -- what comes ---------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Encrypted bytes have come."""
        self._incoming.write(data)
        self._go_on()

    def _go_on(self) -> None:
        """Do what can be done with what there is."""
        if self._is_reading or not self.connected or self._is_aborted:
            return
        self._is_reading = True
        try:
            if self._is_shaken or self._shake_hands():
                self._read()
                if self._is_shut and not self._has_ended:
                    self._shut_down()
        except ssl.SSLError as raised:
            self._failed(raised)
        finally:
            self._is_reading = False
            self._flush()

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
            if self._verify is not None:
                self._verify(self._tls)
        except ssl.SSLWantReadError:
            return False
        except ssl.CertificateError as raised:
            self._failed(raised)
            return False
        self._is_shaken = True
        if interfaces.IHandshakeListener.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.handshakeCompleted()
        unsent, self._unsent = self._unsent, []
        for data in unsent:
            self._encrypt(data)
        if self._producer is not None:
            self.transport.registerProducer(self._producer, self._streaming)
            if self._is_held:
                self._producer.resumeProducing()
        elif self.disconnecting:
            self._shut_down()
        return True

    def _read(self) -> None:
        while not self._is_paused and not self._has_ended and not self._is_aborted and not self._is_shut:
            try:
                data = self._tls.read(READ_SIZE)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                self._other_has_ended()
                return
            self._flush()
            self.wrappedProtocol.dataReceived(data)

    def _other_has_ended(self) -> None:
        self._has_ended = True
        self.disconnecting = True
        self._shut_down()

    def _failed(self, why: BaseException) -> None:
        """TLS is broken: tell the other end if that can be done, and close."""
        if self._reason is None:
            self._reason = Failure(why)
        self._flush()
        self._is_aborted = True
        self.disconnecting = True
        self.transport.loseConnection()

    # -- what goes ----------------------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Send bytes (or a str, with a warning), in order; never waits. Dropped once it is being closed, unless a
        registered producer still writes."""
        if data.__class__ is not bytes:
            data = encoded(data)
        if not data or not self.connected or self._is_shut or (self.disconnecting and self._producer is None):
            return
        if not self._is_shaken:
            self._keep(data)
            return
        try:
            self._encrypt(data)
        except ssl.SSLError as raised:
            self._failed(raised)
        self._flush()

    def _keep(self, data: bytes) -> None:
        """Until the handshake is over; a producer that gives too much is paused until then."""
        self._unsent.append(data)
        self._unsent_size += len(data)
        if self._unsent_size > MAX_UNSENT and self._producer is not None and self._streaming and not self._is_held:
            self._is_held = True
            self._producer.pauseProducing()

    def writeSequence(self, iovec: Any) -> None:
        """Send several; a str among them is a TypeError."""
        self.write(joined(iovec))

    def _encrypt(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]

    def _flush(self) -> None:
        if self._outgoing.pending and self.transport is not None:
            self.transport.write(self._outgoing.read())

    # -- the end ------------------------------------------------------------------------------------------------------

    def loseConnection(self) -> None:
        """Close, once what was written is out and a registered producer is done."""
        if self.disconnecting or not self.connected:
            return
        if not self._is_shaken and not self._unsent and self._producer is None:
            self.abortConnection()
            return
        self.disconnecting = True
        if self._front is not None:
            self._front.disconnecting = True
        if self._is_shaken and self._producer is None:
            self._shut_down()
            self._flush()

    def abortConnection(self) -> None:
        """Close at once; the protocol is told with `ConnectionAborted`."""
        if self._is_aborted or not self.connected:
            return
        self._is_aborted = True
        self.disconnecting = True
        if self._reason is None:
            self._reason = Failure(error.ConnectionAborted())
        abort = getattr(self.transport, "abortConnection", self.transport.loseConnection)
        abort()

    def loseWriteConnection(self) -> None:
        """TLS is not closed by halves: close it."""
        self.loseConnection()

    def _shut_down(self) -> None:
        """Say that no more is sent; once both ends have said so, close."""
        self._is_shut = True
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError:  # the other end sends on: nobody wants it
            pass
        self._has_ended = True
        self._flush()
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The transport has ended."""
        if self.connected and not self._is_aborted and not self._has_ended:
            self._incoming.write_eof()
            if reason.check(error.ConnectionDone):
                reason = self._why_it_was_cut(reason)
        self.connected = False
        if self._reason is not None:
            reason, self._reason = self._reason, None
        self._producer = None
        ProtocolWrapper.connectionLost(self, reason)

    def _why_it_was_cut(self, reason: Failure) -> Failure:
        """What to say of a stream that ended in order, without TLS's own end."""
        if self._is_shut:  # we had said that we are done
            return reason
        return Failure(main.CONNECTION_LOST)

    def failVerification(self, reason: Failure) -> None:
        """The other end is not who it should be: close, for this reason."""
        self._reason = reason
        self.abortConnection()

    # -- flow ---------------------------------------------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take from this producer too, once the handshake is over. RuntimeError if there is one."""
        if self._producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer}: producer {self._producer} was never unregistered."
            )
        if not self.connected:
            producer.stopProducing()
            return
        self._producer, self._streaming, self._is_held = producer, streaming, False
        if self._is_shaken:
            self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Take from it no more."""
        if self._producer is None:
            return
        self._producer = None
        if self._is_shaken:
            self.transport.unregisterProducer()
            if self.disconnecting and self.connected and not self._is_shut:
                self._shut_down()
                self._flush()

    def pauseProducing(self) -> None:
        """Deliver nothing until resumeProducing."""
        self._is_paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Deliver what has come meanwhile, and read on."""
        self._is_paused = False
        self.transport.resumeProducing()
        self._go_on()

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # -- what it is ---------------------------------------------------------------------------------------------------

    TLS = True

    def getHandle(self) -> Any:
        """The `ssl.SSLObject`."""
        return self._tls

    def getPeerCertificate(self) -> Any:
        """The other end's certificate, an `ssl.Certificate`; None if it has shown none, or not yet."""
        data = self._tls.getpeercert(True) if self._is_shaken else None
        if not data:
            return None
        from plait.classic.internet import _certificates

        return _certificates.Certificate.load(data)

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """The protocol both agreed on (ALPN); None if there is none, or not yet."""
        name = self._tls.selected_alpn_protocol() if self._is_shaken else None
        return name.encode() if name else None


class TLSMemoryBIOFactory(WrappingFactory[Any]):
    """Wraps each protocol of another factory in TLS.

    `contextFactory` is an `ssl.SSLContext`, something whose getContext() gives one, or a maker of connections.
    """

    protocol = TLSMemoryBIOProtocol
    noisy = False

    def __init__(self, contextFactory: Any, isClient: bool, wrappedFactory: Any, clock: Any = None) -> None:
        WrappingFactory.__init__(self, wrappedFactory)
        self._make = connection_maker(contextFactory, isClient, _names(wrappedFactory))

    def logPrefix(self) -> str:
        """What log lines call it: the wrapped factory, with TLS."""
        return f"{prefix_of(self.wrappedFactory)} (TLS)"

    def _createConnection(self, tlsProtocol: TLSMemoryBIOProtocol) -> Any:
        return self._make(tlsProtocol)


def _names(factory: Any) -> list[str]:
    """The protocols a factory is willing to speak."""
    if not interfaces.IProtocolNegotiationFactory.providedBy(factory):
        return []
    return [name.decode("ascii") for name in factory.acceptableProtocols()]


def connection_maker(contextFactory: Any, isClient: bool, names: list[str] | None = None) -> Any:
    """What makes the TLS object of a protocol. TypeError for what is no context and makes none."""
    wanted = interfaces.IOpenSSLClientConnectionCreator if isClient else interfaces.IOpenSSLServerConnectionCreator
    if wanted.providedBy(contextFactory):
        if names and hasattr(contextFactory, "_context"):
            contextFactory._context(isClient).set_alpn_protocols(names)
        return contextFactory.clientConnectionForTLS if isClient else contextFactory.serverConnectionForTLS
    context = contextFactory.getContext() if hasattr(contextFactory, "getContext") else contextFactory
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(
            f"{contextFactory!r} gives no ssl.SSLContext but {context!r}: use ssl.CertificateOptions,"
            " ssl.optionsForClientTLS, or a context of the standard library's ssl"
        )
    if names:
        context.set_alpn_protocols(names)
    return lambda tlsProtocol: tlsProtocol.wrap(context, server_side=not isClient)


# -- TLS in the middle of a connection ----------------------------------------------------------------------------


_TRANSPORT = (
    "write",
    "writeSequence",
    "loseConnection",
    "loseWriteConnection",
    "abortConnection",
    "registerProducer",
    "unregisterProducer",
    "pauseProducing",
    "resumeProducing",
    "stopProducing",
)
"""What the protocol of a connection calls, and TLS does instead from then on."""


class _Underneath:
    """A connection as it was before TLS began: the transport of the TLS protocol."""

    def __init__(self, connection: Any) -> None:
        kind = type(connection)
        for name in _TRANSPORT:
            if hasattr(kind, name):
                setattr(self, name, getattr(kind, name).__get__(connection))
        self._connection = connection
        directlyProvides(self, providedBy(connection))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class _OneProtocol(WrappingFactory[Any]):
    """The factory of one TLS protocol, on a connection whose protocol there is already."""

    def __init__(self, maker: Any) -> None:
        WrappingFactory.__init__(self, None)
        self._createConnection = maker


def start_tls(connection: Any, contextFactory: Any, isClient: bool) -> None:
    """Let a connection speak TLS from here on; its protocol and its transport stay the same to each other."""
    if connection.TLS:
        return
    producer, streaming = connection.producer, connection.streamingProducer
    if producer is not None:
        connection.unregisterProducer()
    factory = getattr(connection.protocol, "factory", None)
    maker = connection_maker(contextFactory, isClient, _names(factory))
    protocol = TLSMemoryBIOProtocol(_OneProtocol(maker), connection.protocol, _connectWrapped=False)
    underneath = _Underneath(connection)
    for name in (*_TRANSPORT, "getPeerCertificate"):
        setattr(connection, name, getattr(protocol, name))
    if hasattr(connection, "_closes"):
        protocol._front = connection
    connection.TLS = True
    connection.protocol = protocol
    alsoProvides(connection, interfaces.ISSLTransport)
    protocol.makeConnection(underneath)
    if producer is not None:
        protocol.registerProducer(producer, streaming)


__all__ = ["TLSMemoryBIOFactory", "TLSMemoryBIOProtocol"]
