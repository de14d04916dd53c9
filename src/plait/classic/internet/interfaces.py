# ruff: noqa: B006
# mypy: disable-error-code="misc,empty-body,no-untyped-def,no-untyped-call,no-any-unimported,assignment,override"
"""What the parts of the network offer each other, as zope interfaces with Twisted's names and signatures.

Rules: an interface says what a caller may rely on and holds no code; a method's `self` is left out, as zope has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from zope.interface import Attribute, Interface

# -- addresses and endpoints ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Binding:
    """A local address, and whether others may have it too: see `tcp.makeBinding`."""

    interface: str
    port: int
    reuseAddress: bool
    reusePort: bool


class IAddress(Interface):
    """Where something listens or whence it came. Equal addresses compare equal and hash alike."""


class IConnector(Interface):
    """One outgoing connection, from the attempt to its end; the same object connects again."""

    def stopConnecting():
        """Give the attempt up: the factory is told with `UserError`. `NotConnectingError` if there is none."""

    def disconnect():
        """Close the connection, or give the attempt up, whichever there is."""

    def connect():
        """Connect (again)."""

    def getDestination():
        """The address it connects to."""


class IStreamServerEndpoint(Interface):
    """Somewhere to listen."""

    def listen(protocolFactory):
        """A Deferred of the `IListeningPort`; it fails with `CannotListenError`."""


class IStreamClientEndpoint(Interface):
    """Somewhere to connect to."""

    def connect(protocolFactory):
        """A Deferred of the protocol, once it is connected. Cancelling it gives the attempt up."""


class IStreamServerEndpointStringParser(Interface):
    """Makes server endpoints of descriptions that begin with its prefix."""

    prefix = Attribute("What stands before the first colon.")

    def parseStreamServer(reactor, *args, **kwargs):
        """The endpoint that the description's arguments stand for."""


class IStreamClientEndpointStringParserWithReactor(Interface):
    """Makes client endpoints of descriptions that begin with its prefix."""

    prefix = Attribute("What stands before the first colon.")

    def parseStreamClient(reactor, *args, **kwargs):
        """The endpoint that the description's arguments stand for."""


# -- names ------------------------------------------------------------------------------------------------------


class IResolverSimple(Interface):
    """Finds the IPv4 address of a name."""

    def getHostByName(name, timeout=()):
        """A Deferred of the address as text; it fails with `DNSLookupError`."""


class IHostResolution(Interface):
    """One look-up that is under way."""

    name = Attribute("The name that is looked up, as text.")

    def cancel():
        """Stop; no further address is given, and the receiver hears of the end."""


class IResolutionReceiver(Interface):
    """Hears of the addresses of a name, as they are found."""

    def resolutionBegan(resolutionInProgress):
        """The look-up, an `IHostResolution`, has begun."""

    def addressResolved(address):
        """One more address, an `IAddress`, was found."""

    def resolutionComplete():
        """There are no more."""


class IHostnameResolver(Interface):
    """Finds all the addresses of a name."""

    def resolveHostName(resolutionReceiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"):
        """Look a name up for a receiver; the `IHostResolution` that began."""


class IReactorPluggableResolver(Interface):
    """A reactor whose way to look up IPv4 addresses can be replaced."""

    def installResolver(resolver):
        """Use this `IResolverSimple` from now on; the one before it."""


class IReactorPluggableNameResolver(Interface):
    """A reactor whose way to look up all addresses can be replaced."""

    nameResolver = Attribute("The `IHostnameResolver` in use.")

    def installNameResolver(resolver):
        """Use this `IHostnameResolver` from now on; the one before it."""


# -- the reactor ------------------------------------------------------------------------------------------------


class IReactorCore(Interface):
    """The loop: it runs, stops, and tells of both."""

    running = Attribute("Whether it runs: from startup to the end of the shutdown.")

    def resolve(name, timeout=(1, 3, 11, 45)):
        """A Deferred of a name's IPv4 address, as text."""

    def run():
        """Fire startup, and serve until `stop` has been asked for and the shutdown is over."""

    def stop():
        """Begin the shutdown. `ReactorNotRunning` if it does not run, or is stopping already."""

    def crash():
        """Leave `run` at once; no shutdown event is fired."""

    def iterate(delay):
        """Do what is due once, waiting for up to `delay` seconds."""

    def fireSystemEvent(eventType):
        """Fire an event: its triggers of the phases before, during and after."""

    def addSystemEventTrigger(phase, eventType, callable, *args, **kwargs):
        """Call this at an event, in phase "before" (a Deferred it returns is waited for), "during" or "after".

        What it returns is for `removeSystemEventTrigger`.
        """

    def removeSystemEventTrigger(triggerID):
        """Forget a trigger."""

    def callWhenRunning(callable, *args, **kwargs):
        """Call this once the reactor runs: now, if it does."""


class IReactorTime(Interface):
    """A clock that calls."""

    def seconds():
        """The time, in seconds."""

    def callLater(delay, callable, *args, **kwargs):
        """Call this in `delay` seconds; an `IDelayedCall`."""

    def getDelayedCalls():
        """The `IDelayedCall`s that are pending."""


class IDelayedCall(Interface):
    """A call that is to come. Once made or cancelled, its methods raise `AlreadyCalled` or `AlreadyCancelled`."""

    def getTime():
        """When it is due, by the clock's `seconds`."""

    def cancel():
        """Do not make it."""

    def delay(secondsLater):
        """Make it so much later than it would have been."""

    def reset(secondsFromNow):
        """Make it so long from now."""

    def active():
        """Whether it is still to come."""


class IReactorFromThreads(Interface):
    """The way from a thread to the loop."""

    def callFromThread(callable, *args, **kwargs):
        """Call this in the loop, soon, and in the order of these calls. For any thread."""


class IReactorInThreads(Interface):
    """The way from the loop to a thread."""

    def callInThread(callable, *args, **kwargs):
        """Call this in a thread of the pool; what it raises is logged."""


class IReactorThreads(IReactorFromThreads, IReactorInThreads):
    """Both ways, and the pool."""

    def getThreadPool():
        """The pool, a `python.threadpool.ThreadPool`."""

    def suggestThreadPoolSize(size):
        """Let the pool have up to this many threads."""


class IReactorDaemonize(Interface):
    """A reactor that is told of a fork into the background."""

    def beforeDaemonize():
        """The process is about to fork."""

    def afterDaemonize():
        """This is the child."""


class IReactorTCP(Interface):
    """TCP."""

    def listenTCP(port, factory, backlog=50, interface=""):
        """An `IListeningPort` on this port and interface. `CannotListenError`."""

    def connectTCP(host, port, factory, timeout=30.0, bindAddress=None):
        """An `IConnector` that connects to `host`, a name or an address, within `timeout` seconds."""


class IReactorSSL(Interface):
    """TLS over TCP."""

    def connectSSL(host, port, factory, contextFactory, timeout=30.0, bindAddress=None):
        """An `IConnector`, as of connectTCP."""

    def listenSSL(port, factory, contextFactory, backlog=50, interface=""):
        """An `IListeningPort`, as of listenTCP."""


class IReactorUNIX(Interface):
    """Stream sockets of the UNIX family."""

    def connectUNIX(address, factory, timeout=30, checkPID=False):
        """An `IConnector` to the socket of this path; checkPID asks the lock beside it whether somebody listens."""

    def listenUNIX(address, factory, backlog=50, mode=0o666, wantPID=False):
        """An `IListeningPort` at this path, with these permissions; wantPID puts a lock beside it."""


class IReactorUNIXDatagram(Interface):
    """Datagram sockets of the UNIX family."""

    def connectUNIXDatagram(address, protocol, maxPacketSize=8192, mode=0o666, bindAddress=None):
        """A port whose protocol speaks to one other socket."""

    def listenUNIXDatagram(address, protocol, maxPacketSize=8192, mode=0o666):
        """A port at this path."""


class IReactorUDP(Interface):
    """UDP."""

    def listenUDP(port, protocol, interface="", maxPacketSize=8192):
        """An `IListeningPort` that is the protocol's transport too."""


class IReactorMulticast(Interface):
    """UDP to groups."""

    def listenMulticast(port, protocol, interface="", maxPacketSize=8192, listenMultiple=False):
        """An `IListeningPort` that can join groups; listenMultiple lets several programs share the port."""


class IReactorSocket(Interface):
    """Sockets that somebody else has opened."""

    def adoptStreamPort(fileDescriptor, addressFamily, factory):
        """An `IListeningPort` on a socket that listens. The descriptor is duplicated, and stays the caller's."""

    def adoptStreamConnection(fileDescriptor, addressFamily, factory):
        """The transport of a connected socket, for a protocol of this factory."""

    def adoptDatagramPort(fileDescriptor, addressFamily, protocol, maxPacketSize=8192):
        """An `IListeningPort` on a datagram socket that is bound."""


class IReactorProcess(Interface):
    """Processes."""

    def spawnProcess(
        processProtocol, executable, args=(), env={}, path=None, uid=None, gid=None, usePTY=0, childFDs=None
    ):
        """Start a program; its `IProcessTransport`.

        `env` None passes our own environment on; `path` is its working directory; `childFDs` says what each of its
        descriptors is: "r" (we read), "w" (we write), or a descriptor of ours.
        """


class IReactorFDSet(Interface):
    """Descriptors that are watched."""

    def addReader(reader):
        """Call this `IReadDescriptor`'s doRead whenever there is something to read."""

    def addWriter(writer):
        """Call this `IWriteDescriptor`'s doWrite whenever it can be written to."""

    def removeReader(reader):
        """Watch it for reading no more."""

    def removeWriter(writer):
        """Watch it for writing no more."""

    def removeAll():
        """Watch none any more; those that were watched."""

    def getReaders():
        """Those that are watched for reading."""

    def getWriters():
        """Those that are watched for writing."""


# -- descriptors ------------------------------------------------------------------------------------------------


class ILoggingContext(Interface):
    """Something that log lines are about."""

    def logPrefix():
        """What to call it there."""


class IFileDescriptor(ILoggingContext):
    """A descriptor of the system."""

    def fileno():
        """Its number, or -1 if it is closed."""

    def connectionLost(reason):
        """It is closed, for this reason, a Failure."""


class IReadDescriptor(IFileDescriptor):
    """One that can be watched for reading."""

    def doRead():
        """There is something to read. An exception that is returned ends the descriptor."""


class IWriteDescriptor(IFileDescriptor):
    """One that can be watched for writing."""

    def doWrite():
        """It can be written to. An exception that is returned ends the descriptor."""


class IReadWriteDescriptor(IReadDescriptor, IWriteDescriptor):
    """Both."""


class IHalfCloseableDescriptor(Interface):
    """One whose two directions end apart."""

    def writeConnectionLost(reason):
        """It cannot be written to any more."""

    def readConnectionLost(reason):
        """There is nothing more to read."""


class ISystemHandle(Interface):
    """Something that stands on an object of the system."""

    def getHandle():
        """That object: a socket, say."""


# -- flow -------------------------------------------------------------------------------------------------------


class IConsumer(Interface):
    """Takes what a producer produces."""

    def registerProducer(producer, streaming):
        """Take from this producer: a push producer if `streaming`, else a pull producer.

        RuntimeError if there is one already.
        """

    def unregisterProducer():
        """Take from it no more."""

    def write(data):
        """Take these bytes."""


class IProducer(Interface):
    """Produces for a consumer."""

    def stopProducing():
        """Stop for good: nobody wants it."""


class IPushProducer(IProducer):
    """Produces by itself, until told to pause."""

    def pauseProducing():
        """Produce nothing until resumeProducing."""

    def resumeProducing():
        """Go on."""


class IPullProducer(IProducer):
    """Produces when asked."""

    def resumeProducing():
        """Produce once."""


# -- transports -------------------------------------------------------------------------------------------------


class ITransport(Interface):
    """One end of a connection, for the protocol that speaks there."""

    def write(data):
        """Send bytes, in order; never waits."""

    def writeSequence(data):
        """Send several."""

    def loseConnection():
        """Close, once what was written is out and a registered producer is done."""

    def getPeer():
        """The other end's address."""

    def getHost():
        """This end's address."""


class ITCPTransport(ITransport):
    """A TCP connection."""

    def loseWriteConnection():
        """Send no more, once what was written is out; the other end hears of it."""

    def abortConnection():
        """Close at once; what was not sent yet is dropped."""

    def getTcpNoDelay():
        """Whether small segments are sent at once."""

    def setTcpNoDelay(enabled):
        """Send small segments at once, or gather them (Nagle's algorithm)."""

    def getTcpKeepAlive():
        """Whether the system probes an idle connection."""

    def setTcpKeepAlive(enabled):
        """Let the system probe an idle connection, or not."""

    def getHost():
        """An `IPv4Address` or `IPv6Address`."""

    def getPeer():
        """An `IPv4Address` or `IPv6Address`."""


class ITLSTransport(ITCPTransport):
    """A TCP connection that can be made a TLS one."""

    def startTLS(contextFactory):
        """Speak TLS from here on."""


class ISSLTransport(ITCPTransport):
    """A TLS connection."""

    def getPeerCertificate():
        """The other end's certificate, an `ssl.Certificate`, or None."""


class INegotiated(ISSLTransport):
    """A TLS connection whose ends agreed on a protocol (ALPN)."""

    negotiatedProtocol = Attribute("Its name in bytes; None if there is none, or not yet.")


class IUNIXTransport(ITransport):
    """A stream connection of the UNIX family."""

    def sendFileDescriptor(descriptor):
        """Send a duplicate of this descriptor with the bytes that are written next."""


class IUDPTransport(Interface):
    """A UDP port, for the protocol that speaks there."""

    def write(packet, addr=None):
        """Send a datagram to a host (an address) and port; to the connected one if there is no `addr`."""

    def connect(host, port):
        """Send to, and hear from, this address alone."""

    def getHost():
        """Its address."""

    def stopListening():
        """A Deferred, or None: close it."""

    def setBroadcastAllowed(enabled):
        """Allow broadcasts, or not."""

    def getBroadcastAllowed():
        """Whether broadcasts are allowed."""


class IMulticastTransport(IUDPTransport):
    """A UDP port that can join groups."""

    def getOutgoingInterface():
        """The address of the interface by which it sends to groups."""

    def setOutgoingInterface(addr):
        """A Deferred: send to groups by the interface of this address."""

    def getLoopbackMode():
        """Whether this host hears what it sends to groups itself."""

    def setLoopbackMode(mode):
        """Hear it, or not."""

    def getTTL():
        """How many routers what is sent to groups passes."""

    def setTTL(ttl):
        """Set that."""

    def joinGroup(addr, interface=""):
        """A Deferred: hear what is sent to this group. `MulticastJoinError`."""

    def leaveGroup(addr, interface=""):
        """A Deferred: hear it no more. `MulticastJoinError`."""


class IUNIXDatagramTransport(Interface):
    """A datagram port of the UNIX family."""

    def write(packet, addr):
        """Send a datagram to the socket of this path."""

    def getHost():
        """Its `UNIXAddress`."""


class IUNIXDatagramConnectedTransport(Interface):
    """A datagram port of the UNIX family that speaks to one other."""

    def write(packet):
        """Send a datagram there."""

    def getHost():
        """Its `UNIXAddress`."""

    def getPeer():
        """The other's `UNIXAddress`."""


class IProcessTransport(ITransport):
    """A process, for the protocol that looks after it."""

    pid = Attribute("Its process id; None once it has ended.")

    def closeStdin():
        """Close its standard input, once what was written is out."""

    def closeStdout():
        """Read its standard output no more."""

    def closeStderr():
        """Read its standard error no more."""

    def closeChildFD(descriptor):
        """Close our end of this descriptor of its."""

    def writeToChild(childFD, data):
        """Write to this descriptor of its."""

    def loseConnection():
        """Close standard input, output and error."""

    def signalProcess(signalID):
        """Send a signal: a number, or one of "HUP", "KILL", "STOP", "INT", "TERM". `ProcessExitedAlready`."""


class IListeningPort(Interface):
    """Something that listens."""

    def startListening():
        """Listen. `CannotListenError`."""

    def stopListening():
        """A Deferred, or None: listen no more; connections that are open stay so."""

    def getHost():
        """Where it listens."""


# -- protocols --------------------------------------------------------------------------------------------------


class IProtocol(Interface):
    """What is said over one connection."""

    def dataReceived(data):
        """Bytes have come; as many as there were, wherever the sender's writes ended."""

    def connectionLost(reason):
        """The connection has ended, for this reason, a Failure; nothing else is called after this."""

    def makeConnection(transport):
        """Here is the connection: keep it, and call connectionMade."""

    def connectionMade():
        """There is a connection."""


class IProcessProtocol(Interface):
    """What is made of one process."""

    def makeConnection(process):
        """Here is its `IProcessTransport`."""

    def childDataReceived(childFD, data):
        """It has written bytes to this descriptor."""

    def childConnectionLost(childFD):
        """This descriptor is closed."""

    def processExited(reason):
        """It has ended (a Failure of `ProcessDone` or `ProcessTerminated`); there may be output still."""

    def processEnded(reason):
        """It has ended, and every descriptor is closed."""


class IHalfCloseableProtocol(Interface):
    """A protocol that goes on when one direction has ended."""

    def readConnectionLost():
        """There is nothing more to read."""

    def writeConnectionLost():
        """Nothing more can be written."""


class IHandshakeListener(Interface):
    """A protocol that wants to know when TLS is there."""

    def handshakeCompleted():
        """The handshake is over, and the other end's certificate known."""


class IFileDescriptorReceiver(Interface):
    """A protocol that takes descriptors."""

    def fileDescriptorReceived(descriptor):
        """A descriptor has come, and is this protocol's to close."""


class IProtocolFactory(Interface):
    """Makes protocols for connections."""

    def buildProtocol(addr):
        """The protocol for a connection with this address, or None to drop it."""

    def doStart():
        """A port or connector begins to use it."""

    def doStop():
        """A port or connector has ended."""


class IProtocolNegotiationFactory(Interface):
    """A factory whose protocols are negotiated by TLS (ALPN)."""

    def acceptableProtocols():
        """The names it speaks, in bytes, the preferred first."""


# -- TLS --------------------------------------------------------------------------------------------------------


class IOpenSSLContextFactory(Interface):
    """Gives the context of TLS connections; here one of the standard library's."""

    def getContext():
        """An `ssl.SSLContext`."""


class IOpenSSLServerConnectionCreator(Interface):
    """Makes the server's side of a TLS connection."""

    def serverConnectionForTLS(tlsProtocol):
        """An `ssl.SSLObject` for this `TLSMemoryBIOProtocol`."""


class IOpenSSLClientConnectionCreator(Interface):
    """Makes the client's side of a TLS connection."""

    def clientConnectionForTLS(tlsProtocol):
        """An `ssl.SSLObject` for this `TLSMemoryBIOProtocol`."""


class ICipher(Interface):
    """A cipher suite."""

    fullName = Attribute("Its full name, as OpenSSL has it.")


class IAcceptableCiphers(Interface):
    """A choice of cipher suites."""

    def selectCiphers(availableCiphers):
        """Those to use of the `ICipher`s there are, the preferred first."""


class IServiceCollection(Interface):
    """An old name's place: `application.service.IServiceCollection` is the one to use."""

    def getServiceNamed(serviceName):
        """The service of this name."""

    def addService(service):
        """Take a service in."""

    def removeService(service):
        """Let it go."""


__all__ = [name for name in dict(globals()) if name.startswith("I") and name != "Interface"]
